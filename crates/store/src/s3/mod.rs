//! The S3 front: HTTP in, answers out.
//!
//! [`serve_with`] listens. Each request is taken apart (`call`), its claim verified (`sign`, `framing`, `visitor`), its
//! operation found (`route`), let in (`job`) and done by the file of its kind. `docs/adr` says why this is a layer of our own.
//!
//! Invariant: no body and no document is read before the signature over the request's head is verified; nothing that
//! arrives is believed before its own digests are.

mod acl;
mod admin;
mod attributes;
mod bucket;
mod bucket_ops;
mod call;
mod conditions;
mod copy;
mod cors;
mod delete;
mod documents;
mod events;
mod expiry;
mod fault;
mod form;
mod framing;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod get;
mod iam;
mod intake;
mod job;
mod lifecycle;
mod list;
mod multipart;
mod object_docs;
mod payload;
mod put;
mod query;
mod reply;
mod route;
mod server;
mod service;
mod sign;
mod sse;
mod visitor;
mod webhook;
mod xml;

pub use server::{serve, serve_with};

/// Who may read the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metrics {
    /// Root users.
    #[default]
    Root,
    /// Whoever can reach the listener: for scrapers that cannot sign.
    Everybody,
}

/// What requests may do that nobody signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strangers {
    /// What bucket policies and access lists let everybody do.
    #[default]
    ByPolicy,
    /// Nothing at all: a hall has no open route.
    Refused,
}

/// How objects are encrypted that come without a wish, into a bucket without a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DefaultEncryption {
    /// Not at all.
    #[default]
    None,
    /// Each by a key of its own under the store's ring, as SSE-S3.
    Managed,
}

/// How the front behaves.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The region that the store says it is in.
    pub region: String,
    /// Names under which `bucket.NAME` is a bucket.
    pub domains: Vec<String>,
    /// How long a day of a lifecycle is, in seconds: for trying rules out. `None` for a day.
    pub day_seconds: Option<u64>,
    /// Keys of the built-in key service.
    pub kms_keys: Vec<String>,
    /// Where events go; see [`webhook`](crate::s3::webhook_to).
    pub events: Option<tokio::sync::mpsc::Sender<String>>,
    /// Who may read `/-/metrics`.
    pub metrics: Metrics,
    /// What requests may do that nobody signed.
    pub strangers: Strangers,
    /// How objects are encrypted that come without a wish.
    pub encryption: DefaultEncryption,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            domains: Vec::new(),
            day_seconds: None,
            kms_keys: vec!["aws/s3".to_owned()],
            events: None,
            metrics: Metrics::Root,
            strangers: Strangers::ByPolicy,
            encryption: DefaultEncryption::None,
        }
    }
}

pub use webhook::webhook_to;
