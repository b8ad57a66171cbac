//! XML as S3 answers with it: a small tree, bounded, without entities of its own.

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::Error;

const DEPTH_MAX: usize = 16;
const ELEMENTS_MAX: usize = 200_000;

/// An element.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) text: String,
    children: Vec<Node>,
}

impl Node {
    /// The root of a document; `None` if it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text).trim_start());
        let mut open = vec![Self::default()];
        let mut elements = 0;
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => {
                    elements += 1;
                    if open.len() > DEPTH_MAX || elements > ELEMENTS_MAX {
                        return None;
                    }
                    let name = std::str::from_utf8(start.local_name().into_inner()).ok()?.to_owned();
                    open.push(Self { name, ..Self::default() });
                }
                Event::Empty(start) => {
                    elements += 1;
                    let name = std::str::from_utf8(start.local_name().into_inner()).ok()?.to_owned();
                    open.last_mut()
                        .filter(|_node| elements <= ELEMENTS_MAX)?
                        .children
                        .push(Self { name, ..Self::default() });
                }
                Event::End(_) => {
                    let node = open.pop()?;
                    open.last_mut()?.children.push(node);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text.decode().ok()?),
                Event::CData(data) => open.last_mut()?.text.push_str(&data.decode().ok()?),
                Event::GeneralRef(reference) => {
                    let char = match reference.resolve_char_ref().ok()? {
                        Some(char) => char,
                        None => match reference.decode().ok()?.as_ref() {
                            "lt" => '<',
                            "gt" => '>',
                            "amp" => '&',
                            "quot" => '"',
                            "apos" => '\'',
                            _unknown => return None,
                        },
                    };
                    open.last_mut()?.text.push(char);
                }
                Event::DocType(_) => return None,
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        let top = open.pop().filter(|_top| open.is_empty())?;
        top.children.into_iter().next()
    }

    /// The root, which must have one of these names.
    pub(crate) fn root(action: &str, bytes: &[u8], names: &[&str]) -> Result<Self, Error> {
        let root = Self::parse(bytes).ok_or_else(|| Error::corrupt(action, "the answer is no XML"))?;
        if names.contains(&root.name.as_str()) {
            Ok(root)
        } else {
            Err(Error::corrupt(action, format!("the answer is a `{}`", root.name)))
        }
    }

    /// The text of the first child of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.as_str())
    }

    /// All children of this name.
    pub(crate) fn all<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n Self> + 'n {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// `text` with what XML reserves written as references.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML itself would read a carriage return as a line end.
            '\r' => out.push_str("&#13;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_and_others_refused() {
        let root = Node::parse(b"<?xml version='1.0'?><a xmlns='x'><b>1 &lt; 2</b><c/><b>3</b></a>").unwrap();
        assert_eq!(
            (root.name.as_str(), root.get("b"), root.get("c"), root.get("d")),
            ("a", Some("1 < 2"), Some(""), None)
        );
        assert_eq!(root.all("b").count(), 2);
        for text in ["", "<a>", "<a><b></a>", "<!DOCTYPE a []><a/>", "<a>&x;</a>", "no"] {
            assert!(Node::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert_eq!(Node::parse(format!("<a>{}</a>", escape("<&>\"é\r")).as_bytes()).unwrap().text, "<&>\"é\r");
    }
}
