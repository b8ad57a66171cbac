//! Blueprints to start from. Each is parsed by a test, so that what `datahall init` writes always works.

/// Templates by name.
pub const TEMPLATES: &[(&str, &str)] = &[
    ("laptop", include_str!("../templates/laptop.toml")),
    ("first-hall", include_str!("../../../examples/first-hall/hall.toml")),
    ("lab", include_str!("../templates/lab.toml")),
    ("su32", include_str!("../templates/su32.toml")),
    ("su127", include_str!("../templates/su127.toml")),
    ("pod16k", include_str!("../templates/pod16k.toml")),
    ("tpu-pod", include_str!("../templates/tpu-pod.toml")),
    ("edge", include_str!("../templates/edge.toml")),
    ("reference", crate::schema::REFERENCE),
];

/// The text of the template `name`.
pub fn template(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blueprint;

    #[test]
    fn every_template_is_a_blueprint() {
        for (name, text) in TEMPLATES {
            let settings = Blueprint::parse(name, text).unwrap_or_else(|report| panic!("{report}"));
            assert!(settings.slots() > 0, "{name}");
        }
        assert!(template("laptop").is_some());
        assert_eq!(template("none"), None);
    }
}
