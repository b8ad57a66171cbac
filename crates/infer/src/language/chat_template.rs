//! The model's own chat template, rendered to the text of a prompt.
//!
//! Templates are programs in Jinja that come with the model: they run with a bounded amount of fuel and see nothing but the
//! messages. What a template refuses (`raise_exception`) is the caller's error, with the template's own words.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};

use super::Error;

/// Steps a template may take: a bound against endless loops, far above what a conversation needs.
const FUEL: u64 = 10_000_000;
const NAME: &str = "chat";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A parsed template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    first_text: String,
    end_text: String,
}

impl ChatTemplate {
    /// Parses `source`; the two texts are what templates know as `bos_token` and `eos_token`.
    pub(super) fn new(source: String, first_text: &str, end_text: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment
            .set_syntax(syntax.map_err(|error| Error::not_a_model(format!("templates cannot be read: {error}")))?);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| Error::not_a_model(format!("its chat template cannot be parsed: {error}")))?;
        Ok(Self { environment, first_text: first_text.to_owned(), end_text: end_text.to_owned() })
    }

    /// The prompt that asks for the next message of the assistant.
    pub(super) fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let refused = |error: minijinja::Error| Error::Template(error.detail().unwrap_or("it failed").to_owned());
        let turns: Vec<Value> = messages
            .iter()
            .map(|message| Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())]))
            .collect();
        self.environment
            .get_template(NAME)
            .and_then(|template| {
                template.render(context! {
                    messages => turns,
                    add_generation_prompt => true,
                    bos_token => self.first_text.as_str(),
                    eos_token => self.end_text.as_str(),
                })
            })
            .map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, turns: &[(&str, &str)]) -> Result<String, Error> {
        let messages: Vec<Message> = turns
            .iter()
            .map(|(role, content)| Message { role: (*role).to_owned(), content: (*content).to_owned() })
            .collect();
        ChatTemplate::new(source.to_owned(), "<s>", "</s>")?.render(&messages)
    }

    #[test]
    fn templates_use_methods_of_python_and_the_special_tokens() {
        let source = "{{ bos_token }}{% for m in messages %}
            {%- if m['role'].startswith('us') %}[{{ m.content.strip() | upper }}]{% endif %}
        {%- endfor %}{% if add_generation_prompt %}>{% endif %}";
        assert_eq!(render(source, &[("user", " hi "), ("system", "x")]).unwrap(), "<s>[HI]>");
    }

    #[test]
    fn a_template_that_refuses_is_quoted() {
        let source = "{% if messages[0].role != 'user' %}{{ raise_exception('user goes first') }}{% endif %}ok";
        assert_eq!(render(source, &[("user", "x")]).unwrap(), "ok");
        match render(source, &[("assistant", "x")]) {
            Err(Error::Template(why)) => assert_eq!(why, "user goes first"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_template_without_end_runs_out_of_fuel() {
        let source = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        assert!(matches!(render(source, &[]), Err(Error::Template(_))));
        assert!(matches!(render("{% if", &[]), Err(Error::NotAModel { .. })));
    }
}
