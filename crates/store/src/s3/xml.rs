//! XML: a writer that escapes, and a reader of small documents into a tree.
//!
//! Invariant: what is read is bounded in bytes, depth and number of elements, and has no document type, so that
//! nothing in it can grow or reach out. Element names are compared without their namespace.

use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::fault::Fault;

/// S3's namespace.
pub(super) const S3: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// The deepest nesting; the deepest document of S3 needs eight.
const DEPTH_MAX: usize = 32;

/// Elements of one document: a completion of 10,000 parts has seven for each.
const ELEMENTS_MAX: usize = 200_000;

/// A document that is written.
#[derive(Debug, Default)]
pub(super) struct Xml(String);

impl Xml {
    /// A document with its declaration.
    pub(super) fn document() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }

    /// S3's answer: a root in its namespace.
    pub(super) fn answer(root: &str, inside: impl FnOnce(&mut Self)) -> String {
        let mut xml = Self::document();
        let name = format!("{root} xmlns=\"{S3}\"");
        xml.open(&name);
        inside(&mut xml);
        xml.close(root);
        xml.finish()
    }

    fn open(&mut self, name: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
    }

    fn close(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// An element with others inside.
    pub(super) fn element(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.open(name);
        inside(self);
        self.close(name);
    }

    /// An element with an attribute and others inside.
    pub(super) fn attributed(&mut self, name: &str, attributes: &str, inside: impl FnOnce(&mut Self)) {
        self.open(&format!("{name} {attributes}"));
        inside(self);
        self.close(name);
    }

    /// An element with text inside.
    pub(super) fn leaf(&mut self, name: &str, text: impl std::fmt::Display) {
        self.open(name);
        self.push_text(&text.to_string());
        self.close(name);
    }

    /// The same, if there is a text.
    pub(super) fn maybe(&mut self, name: &str, text: Option<impl std::fmt::Display>) {
        if let Some(text) = text {
            self.leaf(name, text);
        }
    }

    /// Text alone.
    pub(super) fn push_text(&mut self, text: &str) {
        for char in text.chars() {
            match char {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\t' | '\n' | '\r' => {
                    let written = write!(self.0, "&#{};", u32::from(char));
                    debug_assert!(written.is_ok(), "writing to a string cannot fail");
                }
                // XML 1.0 has no way to write the other control characters.
                '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => self.0.push('\u{fffd}'),
                char => self.0.push(char),
            }
        }
    }

    /// The document.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Whether it can be an element's name. Names are written again as they were read, so nothing else may pass.
fn is_name(name: &str) -> bool {
    let first = |char: char| char.is_ascii_alphabetic() || char == '_' || !char.is_ascii();
    let inner = |char: char| first(char) || char.is_ascii_digit() || char == '-' || char == '.';
    name.starts_with(first) && name.chars().all(inner)
}

/// An element that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// The value of `xsi:type`.
    pub(super) kind: Option<String>,
    pub(super) text: String,
    pub(super) children: Vec<Node>,
}

impl Node {
    /// The document's root.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let broken = || {
            Fault::malformed(
                "The XML you provided was not well-formed or did not validate against our published schema",
            )
        };
        let text = std::str::from_utf8(bytes).map_err(|_error| broken())?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut reader = Reader::from_str(text);
        let mut open: Vec<Self> = Vec::new();
        let mut root: Option<Self> = None;
        let mut elements = 0;
        let mut finish = |open: &mut Vec<Self>, node: Self| match open.last_mut() {
            Some(parent) => {
                parent.children.push(node);
                Ok(())
            }
            None if root.is_none() => {
                root = Some(node);
                Ok(())
            }
            None => Err(broken()),
        };
        loop {
            match reader.read_event().map_err(|_error| broken())? {
                Event::Start(start) => {
                    elements += 1;
                    if open.len() >= DEPTH_MAX || elements > ELEMENTS_MAX {
                        return Err(broken());
                    }
                    open.push(Self::start(&start).ok_or_else(broken)?);
                }
                Event::Empty(start) => {
                    elements += 1;
                    if elements > ELEMENTS_MAX {
                        return Err(broken());
                    }
                    let node = Self::start(&start).ok_or_else(broken)?;
                    finish(&mut open, node)?;
                }
                Event::End(_) => {
                    let mut node = open.pop().ok_or_else(broken)?;
                    if !node.children.is_empty() {
                        node.text.clear();
                    }
                    finish(&mut open, node)?;
                }
                Event::Text(text) => {
                    let text = text.decode().map_err(|_error| broken())?;
                    match open.last_mut() {
                        Some(node) => node.text.push_str(&text),
                        None if text.trim().is_empty() => {}
                        None => return Err(broken()),
                    }
                }
                Event::CData(data) => {
                    let data = data.decode().map_err(|_error| broken())?;
                    open.last_mut().ok_or_else(broken)?.text.push_str(&data);
                }
                Event::GeneralRef(reference) => {
                    let char = match reference.resolve_char_ref().map_err(|_error| broken())? {
                        Some(char) => char,
                        None => match reference.decode().map_err(|_error| broken())?.as_ref() {
                            "lt" => '<',
                            "gt" => '>',
                            "amp" => '&',
                            "quot" => '"',
                            "apos" => '\'',
                            _unknown => return Err(broken()),
                        },
                    };
                    open.last_mut().ok_or_else(broken)?.text.push(char);
                }
                Event::DocType(_) => return Err(broken()),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        if !open.is_empty() {
            return Err(broken());
        }
        root.ok_or_else(broken)
    }

    fn start(start: &BytesStart<'_>) -> Option<Self> {
        let name = std::str::from_utf8(start.local_name().into_inner()).ok().filter(|name| is_name(name))?.to_owned();
        let mut kind = None;
        for attribute in start.attributes() {
            let attribute = attribute.ok()?;
            if attribute.key.local_name().into_inner() == b"type" {
                kind = Some(String::from_utf8(attribute.value.to_vec()).ok()?);
            }
        }
        Some(Self { name, kind, ..Self::default() })
    }

    /// The root, which must have this name.
    pub(super) fn root(bytes: &[u8], name: &str) -> Result<Self, Fault> {
        let root = Self::parse(bytes)?;
        if root.name == name {
            Ok(root)
        } else {
            Err(Fault::malformed(format!("the document is a `{}`, not a `{name}`", root.name)))
        }
    }

    /// The first child of this name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of this name.
    pub(super) fn all<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n Self> + 'n {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }

    /// The same, which must be there.
    pub(super) fn need(&self, name: &str) -> Result<&str, Fault> {
        self.get(name).ok_or_else(|| Fault::malformed(format!("`{}` lacks `{name}`", self.name)))
    }

    /// The text of the first child of this name, a number.
    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Fault> {
        let text = self.get(name);
        let parse = |text: &str| text.parse().map_err(|_error| Fault::malformed(format!("`{name}` is no number")));
        text.map(parse).transpose()
    }

    /// The element and all inside of it, written again.
    pub(super) fn write(&self, xml: &mut Xml) {
        xml.element(&self.name, |xml| {
            if self.children.is_empty() {
                xml.push_text(&self.text);
            }
            for child in &self.children {
                child.write(xml);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let text = Xml::answer("Root", |xml| {
            xml.element("List", |xml| {
                xml.leaf("Key", "a<b>&\"c'\r\n\u{1f600}");
                xml.leaf("Empty", "");
            });
        });
        let root = Node::root(text.as_bytes(), "Root").unwrap();
        let list = root.child("List").unwrap();
        assert_eq!(list.child("Key").unwrap().text, "a<b>&\"c'\r\n\u{1f600}");
        assert_eq!(list.get("Empty"), Some(""));
    }

    #[test]
    fn what_could_grow_or_reach_out_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
        for text in [
            "",
            "x",
            "<a>",
            "</a>",
            "<a></b>",
            "<a/><b/>",
            "<a></></a>",
            "<a><x:/*b/></a>",
            "<a>&x;</a>",
            deep.as_str(),
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
        ] {
            assert!(Node::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn broken_documents_never_panic() {
        let good =
            b"<?xml version=\"1.0\"?><a xmlns:xsi=\"u\"><b xsi:type=\"C\">x &amp; &#65;</b><![CDATA[y]]><!-- z --></a>";
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap()
        };
        let mut fine = 0;
        for _round in 0..20_000 {
            let mut bytes = good.to_vec();
            for _change in 0..=next() % 3 {
                let at = next() % bytes.len();
                match next() % 3 {
                    0 => bytes[at] = u8::try_from(next() % 256).unwrap(),
                    1 => {
                        bytes.remove(at);
                    }
                    _insert => bytes.insert(at, b"<>&;/!'\"]"[next() % 9]),
                }
            }
            fine += usize::from(Node::parse(&bytes).is_ok());
        }
        assert!(fine > 1_000, "{fine}");
    }
}
