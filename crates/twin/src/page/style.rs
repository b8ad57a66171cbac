//! Colours and the style sheet; the same colours as those of the page of a plan.
//!
//! Invariant: letters have a contrast of 4.5 to what is behind them, areas of 3, in both schemes (WCAG 2.2, 1.4.3 and 1.4.11);
//! a test computes it.

/// A colour: its name in the style sheet, as it is by day and by night.
struct Colour {
    name: &'static str,
    light: &'static str,
    dark: &'static str,
}

const fn colour(name: &'static str, light: &'static str, dark: &'static str) -> Colour {
    Colour { name, light, dark }
}

/// Backgrounds and letters.
const PLAIN: [Colour; 11] = [
    colour("bg", "#f3f5f8", "#0c1118"),
    colour("panel", "#ffffff", "#141c27"),
    colour("sunk", "#e9edf2", "#1d2735"),
    colour("ink", "#12202e", "#e8eef5"),
    colour("muted", "#4b5a69", "#a9b7c6"),
    colour("line", "#d3dae2", "#2c3a4b"),
    colour("accent", "#0a58a8", "#7fb6ff"),
    colour("bad", "#a8201a", "#ff9a8f"),
    colour("warn", "#7f5a00", "#f2c75c"),
    colour("good", "#176b3a", "#6fd79a"),
    colour("on", "#ffffff", "#0b1017"),
];

/// Areas and curves: queues and jobs in turn, then what is nobody's.
const FILLS: [Colour; 12] = [
    colour("c0", "#1d5fc2", "#7ab0ff"),
    colour("c1", "#b5500a", "#ffab61"),
    colour("c2", "#0a7a72", "#45cfc0"),
    colour("c3", "#a82a6b", "#ff94c4"),
    colour("c4", "#6d3fb5", "#c3a3ff"),
    colour("c5", "#866200", "#f0cc55"),
    colour("c6", "#4c6b1f", "#b3d56b"),
    colour("c7", "#7d5238", "#d9b08f"),
    colour("c8", "#2b6a8f", "#86c9ee"),
    colour("c9", "#a63d2f", "#ff9d8c"),
    colour("rest", "#5b6b7a", "#a3b2c2"),
    colour("sleep", "#66616f", "#b9b3c6"),
];

/// Colours that users of nodes have in turn.
pub(crate) const TURNS: usize = 10;

/// Class of the colour of the user with this number.
pub(crate) fn turn(place: usize) -> &'static str {
    FILLS.get(place % TURNS).map_or("c0", |colour| colour.name)
}

/// The whole style sheet.
pub(crate) fn sheet() -> String {
    let vars = |of: fn(&Colour) -> &str| {
        let mut text = String::new();
        for colour in PLAIN.iter().chain(&FILLS) {
            put!(text, "--{}:{};", colour.name, of(colour));
        }
        text
    };
    let (light, dark) = (vars(|colour| colour.light), vars(|colour| colour.dark));
    let mut fills = String::new();
    for name in FILLS.iter().map(|colour| colour.name).chain(["bad"]) {
        put!(fills, ".f-{name}{{fill:var(--{name});background:var(--{name})}}.l-{name}{{stroke:var(--{name})}}");
    }
    format!(
        ":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{fills}{}",
        include_str!("style.css")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(hex: &str) -> f64 {
        let channel = |text: &str| {
            let value = f64::from(u8::from_str_radix(text, 16).unwrap()) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(&hex[1..3]) + 0.7152 * channel(&hex[3..5]) + 0.0722 * channel(&hex[5..7])
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn everything_can_be_read_by_day_and_by_night() {
        let find = |name: &str| PLAIN.iter().find(|colour| colour.name == name).unwrap();
        for scheme in [|colour: &Colour| colour.light, |colour: &Colour| colour.dark] {
            for letters in ["ink", "muted", "accent", "bad", "warn", "good"] {
                for behind in ["bg", "panel", "sunk"] {
                    let seen = contrast(scheme(find(letters)), scheme(find(behind)));
                    assert!(seen >= 4.5, "{letters} on {behind}: {seen:.2}");
                }
            }
            for fill in &FILLS {
                let seen = contrast(scheme(fill), scheme(find("panel")));
                assert!(seen >= 3.0, "{}: {seen:.2}", fill.name);
            }
        }
    }
}
