//! A small writer of SVG: shapes with classes of the style sheet, text that is always escaped, pictures that always have a name.
//!
//! Invariant: nothing is written but through [`escape`] or as a number; coordinates have one digit after the point, so that
//! equal plans give equal bytes.

use std::fmt::Display;

/// Text of anywhere, safe between tags and in attributes in double quotes.
pub(crate) fn escape(text: impl Display) -> String {
    let text = text.to_string();
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A coordinate: one digit after the point, none where it is zero.
pub(crate) fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// `text` cut to what fits `width` pixels at `size` pixels a letter's height; a letter is about 0.56 as wide as high.
pub(crate) fn fit(text: &str, width: f64, size: f64) -> String {
    let mut room = width / (size * 0.56);
    let mut kept = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        room -= 1.0;
        if room < 1.0 && letters.peek().is_some() {
            kept.push('…');
            break;
        }
        kept.push(letter);
    }
    kept
}

/// Where a text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Start,
    Middle,
    End,
}

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) w: f64,
    pub(crate) h: f64,
}

impl Area {
    pub(crate) const fn new(x: f64, y: f64, w: f64, h: f64) -> Self {
        Self { x, y, w, h }
    }

    pub(crate) fn middle(&self) -> (f64, f64) {
        (self.x + self.w / 2.0, self.y + self.h / 2.0)
    }
}

/// A picture while it is drawn.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    width: f64,
    height: f64,
    body: String,
}

impl Picture {
    pub(crate) const fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    fn tip(&mut self, element: &str, tip: &str) {
        if tip.is_empty() {
            self.body.push_str("/>");
        } else {
            put!(self.body, "><title>{}</title></{element}>", escape(tip));
        }
    }

    /// A rectangle; `tip` is shown where the pointer rests.
    pub(crate) fn area(&mut self, area: Area, class: &str, tip: &str) {
        let Area { x, y, w, h } = area;
        let [x, y, w, h] = [x, y, w, h].map(at);
        put!(self.body, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"");
        self.tip("rect", tip);
    }

    /// A rectangle with round corners.
    pub(crate) fn round(&mut self, area: Area, class: &str, tip: &str) {
        let Area { x, y, w, h } = area;
        let [x, y, w, h] = [x, y, w, h].map(at);
        put!(self.body, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" rx=\"4\"");
        self.tip("rect", tip);
    }

    pub(crate) fn circle(&mut self, (x, y): (f64, f64), radius: f64, class: &str, tip: &str) {
        let [x, y, radius] = [x, y, radius].map(at);
        put!(self.body, "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"");
        self.tip("circle", tip);
    }

    /// A path; `shape` is made of [`at`] and letters only.
    pub(crate) fn path(&mut self, shape: &str, class: &str, tip: &str) {
        put!(self.body, "<path class=\"{class}\" d=\"{shape}\"");
        self.tip("path", tip);
    }

    pub(crate) fn line(&mut self, (x, y): (f64, f64), (to_x, to_y): (f64, f64), class: &str) {
        self.path(&format!("M{} {}L{} {}", at(x), at(y), at(to_x), at(to_y)), class, "");
    }

    /// A line as thick as `width` pixels.
    pub(crate) fn thick(&mut self, (x, y): (f64, f64), (to_x, to_y): (f64, f64), width: f64, class: &str, tip: &str) {
        let [x, y, to_x, to_y, width] = [x, y, to_x, to_y, width].map(at);
        let shape = format!("M{x} {y}L{to_x} {to_y}");
        put!(self.body, "<path class=\"{class}\" stroke-width=\"{width}\" d=\"{shape}\"");
        self.tip("path", tip);
    }

    /// What `other` holds, to be drawn again and again under the name `id`.
    pub(crate) fn define(&mut self, id: &str, other: &Self) {
        put!(self.body, "<defs><g id=\"{}\">{}</g></defs>", escape(id), other.body);
    }

    /// What was defined as `id`, moved by `(x, y)`.
    pub(crate) fn again(&mut self, id: &str, (x, y): (f64, f64)) {
        put!(self.body, "<use href=\"#{}\" x=\"{}\" y=\"{}\"/>", escape(id), at(x), at(y));
    }

    pub(crate) fn text(&mut self, (x, y): (f64, f64), class: &str, hold: Hold, text: impl Display) {
        let class = match hold {
            Hold::Start => class.to_owned(),
            Hold::Middle => format!("{class} m"),
            Hold::End => format!("{class} e"),
        };
        put!(self.body, "<text class=\"{class}\" x=\"{}\" y=\"{}\">{}</text>", at(x), at(y), escape(text));
    }

    /// The picture as an element named `id`, with a title and a text that says what it shows.
    pub(crate) fn finish(self, id: &str, title: &str, alternative: &str) -> String {
        let (id, title, alternative) = (escape(id), escape(title), escape(alternative));
        let [width, height] = [self.width, self.height].map(at);
        // Below its natural size letters would be too small to read; the box around it scrolls instead.
        format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{title}\">\
             <svg viewBox=\"0 0 {width} {height}\" style=\"max-width:{width}px;min-width:min({width}px,700px)\" role=\"img\" \
             aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{title}</title><desc id=\"{id}-d\">{alternative}</desc>{}\
             </svg></div>",
            self.body
        )
    }
}

/// The place of a thing among its like, as a coordinate.
#[expect(clippy::cast_precision_loss, reason = "what is drawn is counted in thousands")]
pub(crate) const fn nth(place: usize) -> f64 {
    place as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_markup_is_escaped() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
        let mut picture = Picture::new(10.0, 10.0);
        picture.text((0.0, 0.0), "t", Hold::Start, "<b>");
        picture.area(Area::new(0.0, 0.0, 1.0, 1.0), "p0", "\"><script>");
        let text = picture.finish("x", "<i>", "&");
        assert!(!text.contains("<b>") && !text.contains("<script>") && !text.contains("<i>"), "{text}");
    }

    #[test]
    fn coordinates_are_short() {
        let texts = [0.0, -0.01, 1.04, 2.5, 100.0].map(at);
        assert_eq!(texts, ["0", "0", "1", "2.5", "100"]);
    }

    #[test]
    fn long_labels_are_cut_and_short_ones_are_not() {
        assert_eq!(fit("leaf", 100.0, 10.0), "leaf");
        assert_eq!(fit("compute leaf", 40.0, 10.0), "compute…".chars().take(6).collect::<String>() + "…");
    }
}
