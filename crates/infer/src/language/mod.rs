//! Quantised language models of the llama architecture, from a GGUF file to a stream of text.
//!
//! Invariant: nothing here touches a socket or an async runtime; a model is shared by all slots and never changes, a
//! [`Session`] belongs to one slot. cost: see `llama`.

mod attention;
mod chat_template;
mod generate;
mod gguf;
mod kv_cache;
mod llama;
mod sampler;
mod text_stream;
mod vocabulary;
mod weights;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use dh_core::{HasKind, Kind};

pub use chat_template::Message;
pub use generate::{Finish, Request, Session, Sink, Usage};
pub use sampler::Sampling;
pub(crate) use vocabulary::byte_chars;

/// Tokens of prompt and answer together, unless the caller asks for more or the model allows less. The cache of keys and
/// values grows with it: 45 kB per token for a model of 135 million parameters.
const CONTEXT_TOKENS_DEFAULT: usize = 8_192;

/// Why a model was not loaded, or a request not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("the model file cannot be read: {0}")]
    Read(#[source] std::io::Error),
    /// The file is damaged, or not what we can run.
    #[error("not a model we can run: {why}")]
    NotAModel {
        /// What is wrong with it.
        why: String,
    },
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {prompt} tokens; this model's context holds {context} for prompt and answer together")]
    PromptTooLong {
        /// Tokens of the prompt. A lower bound if it was refused before it was cut into tokens.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// The chat template refused the messages.
    #[error("the model's chat template refuses these messages: {0}")]
    Template(String),
    /// The file has no chat template.
    #[error("this model has no chat template")]
    NoTemplate,
    /// A parameter is out of bounds.
    #[error("`{name}` {why}")]
    Parameter {
        /// The parameter's name on the wire.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The one who asked has gone, or the engine is stopping.
    #[error("stopped before the end of the answer")]
    Cancelled,
    /// The tensor library failed.
    #[error("computing failed: {0}")]
    Compute(#[from] candle_core::Error),
    /// The model gave no usable number.
    #[error("the model's output is not a number; its weights are damaged")]
    NotFinite,
}

impl Error {
    pub(crate) fn not_a_model(why: impl Into<String>) -> Self {
        Self::NotAModel { why: why.into() }
    }
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Read(error) if error.kind() == std::io::ErrorKind::NotFound => Kind::NotFound,
            Self::NotAModel { .. }
            | Self::PromptTooLong { .. }
            | Self::Template(_)
            | Self::NoTemplate
            | Self::Parameter { .. } => Kind::Invalid,
            Self::Cancelled => Kind::Interrupted,
            Self::Read(_) | Self::Compute(_) => Kind::Internal,
            Self::NotFinite => Kind::Corrupt,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::PromptTooLong { .. } => Some("shorten the messages, or drop the oldest ones".to_owned()),
            Self::NoTemplate => Some("use POST /v1/completions, which needs none".to_owned()),
            Self::NotAModel { .. } => {
                Some("models are GGUF files of the llama architecture with a byte-level vocabulary".to_owned())
            }
            Self::Read(_)
            | Self::Template(_)
            | Self::Parameter { .. }
            | Self::Cancelled
            | Self::Compute(_)
            | Self::NotFinite => None,
        }
    }
}

/// How to load a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Tokens of prompt and answer together. The smaller of this and what the model was trained for counts.
    pub context_tokens_max: Option<usize>,
}

/// A loaded model: weights, vocabulary and chat template. Shared by all slots.
#[derive(Debug)]
pub struct LanguageModel {
    llama: llama::Llama,
    vocabulary: vocabulary::Vocabulary,
    template: Option<chat_template::ChatTemplate>,
    title: String,
    generated: bool,
    context: usize,
    load_time: Duration,
}

impl LanguageModel {
    /// Loads the GGUF file at `path`.
    /// # Errors
    /// If the file cannot be read, is damaged, or holds a model that this engine cannot run.
    pub fn open(path: &Path, options: LoadOptions) -> Result<Self, Error> {
        let started = Instant::now();
        let mut file = File::open(path).map_err(Error::Read)?;
        let file_bytes = file.metadata().map_err(Error::Read)?.len();
        let mut head = gguf::Head::read(&mut file, file_bytes)?;
        let config = llama::Config::from_head(&head)?;
        let title = head.text("general.name").unwrap_or("unnamed").to_owned();
        let generated = head.boolean(crate::standin::GENERATED_KEY).unwrap_or(false);
        let template_source = head.text("tokenizer.chat_template").map(str::to_owned);
        let vocabulary = vocabulary::Vocabulary::from_head(&mut head)?;
        let template = template_source
            .map(|source| chat_template::ChatTemplate::new(source, vocabulary.first_text(), vocabulary.end_text()))
            .transpose()?;
        let context = config.context_tokens.min(options.context_tokens_max.unwrap_or(CONTEXT_TOKENS_DEFAULT));
        if context < 2 {
            return Err(Error::Parameter { name: "context_tokens_max", why: "must be 2 or more".to_owned() });
        }
        let llama = llama::Llama::load(config, vocabulary.size(), &mut weights::Weights::new(file, head.tensors))?;
        Ok(Self { llama, vocabulary, template, title, generated, context, load_time: started.elapsed() })
    }

    /// The name inside the file.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Whether the weights are random and the answers gibberish.
    pub const fn is_generated(&self) -> bool {
        self.generated
    }

    /// Tokens of prompt and answer together.
    pub const fn context_tokens(&self) -> usize {
        self.context
    }

    /// How long loading took.
    pub const fn load_time(&self) -> Duration {
        self.load_time
    }

    /// The tokens of a conversation, ready for the model to answer.
    /// # Errors
    /// [`Error::NoTemplate`], [`Error::Template`], or [`Error::PromptTooLong`].
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, Error> {
        let template = self.template.as_ref().ok_or(Error::NoTemplate)?;
        self.text_prompt(&template.render(messages)?)
    }

    /// The tokens of a plain text, ready for the model to continue.
    /// # Errors
    /// [`Error::PromptTooLong`], or [`Error::Parameter`] if there is no token at all.
    pub fn text_prompt(&self, text: &str) -> Result<Vec<u32>, Error> {
        let too_long = |prompt| Error::PromptTooLong { prompt, context: self.context };
        // No token is longer than the longest of the vocabulary: what cannot fit is refused before it costs any time.
        let tokens_min = text.len() / self.vocabulary.token_bytes_max();
        if tokens_min >= self.context {
            return Err(too_long(tokens_min));
        }
        let tokens = self.vocabulary.encode(text)?;
        if tokens.len() >= self.context {
            return Err(too_long(tokens.len()));
        }
        if tokens.is_empty() {
            return Err(Error::Parameter { name: "prompt", why: "is empty".to_owned() });
        }
        Ok(tokens)
    }
}
