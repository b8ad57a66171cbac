//! Who may come in: keys from the one [`Authenticate`] of the program, and roles that may use the store.

use std::sync::Arc;

use dh_core::Authenticate;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use crate::Store;

/// Gives s3s the secret of a key, to verify a signature with.
pub(super) struct Keys(pub(super) Arc<dyn Authenticate>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.signing_key(access_key) {
            Some((secret, _principal)) => Ok(SecretKey::from(secret.expose().as_str())),
            None => Err(s3_error!(InvalidAccessKeyId, "nobody has this access key")),
        }
    }
}

/// Lets verified callers in whose role may use the store. Counts requests by operation.
pub(super) struct Gate {
    pub(super) auth: Arc<dyn Authenticate>,
    pub(super) store: Store,
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = context.s3_op().name();
        self.store.0.counters.request(operation);
        let Some(credentials) = context.credentials() else {
            return Err(s3_error!(AccessDenied, "every request must be signed"));
        };
        match self.auth.signing_key(&credentials.access_key) {
            Some((_secret, principal)) if principal.may_use_store() => Ok(()),
            Some((_secret, principal)) => {
                tracing::warn!(principal = principal.name, operation, "refused: the key's role may not use the store");
                Err(s3_error!(AccessDenied, "the key's role may not use the store"))
            }
            None => Err(s3_error!(InvalidAccessKeyId, "nobody has this access key")),
        }
    }
}
