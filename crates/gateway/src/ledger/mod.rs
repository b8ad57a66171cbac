//! Callers' bounds that survive the process and are shared by several gateways: who keeps them, and how a gateway gets its
//! part. The rules are [`dh_policy::ledger`]'s; here are its journal, its route and its messages.
//!
//! *Invariant*: what may be admitted was lent before, and a loan of money is on the drive before it is answered. So a process
//! that is killed has never admitted more than its keeper knows of, and costs a caller at most what it held: a 64th of its
//! budget, and what was under way. Cost: a request that fits what is held takes one lock, as without a ledger; one in
//! hundreds asks the keeper: one line of a journal, or one message to another gateway.
//!
//! Off (and free) unless [`LedgerConfig`] is set.

mod far;
mod kept;
mod route;
mod shares;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;

use dh_core::Secret;
use dh_core::time::Span;
use dh_policy::ledger::{Answer, Ask, Bounds};
use tokio::task::JoinHandle;

use crate::gateway::Shared;
use crate::{Error, Gateway};
use far::Far;
pub use kept::JOURNAL as LEDGER_FILE;
use kept::Kept;
pub(crate) use route::serve;
pub(crate) use shares::{Share, Shares};

/// Loans last so long: a gateway that died is forgotten, and a keeper that is away is missed, after it.
pub(crate) const LIFE: Span = Span::from_secs(5);

/// Who keeps what callers use.
#[derive(Debug, Clone)]
pub enum LedgerConfig {
    /// This gateway, in a folder of its own, which is made if it is not there; others may lease from it.
    Keep {
        /// The folder.
        folder: PathBuf,
    },
    /// Another gateway, which keeps it.
    Lease {
        /// Its base URL.
        url: String,
        /// A key of it with the role `admin`.
        key: Secret<String>,
    },
}

/// Whom a gateway asks.
pub(crate) enum Keeper {
    Kept(Arc<Kept>),
    Far(Box<Far>),
}

impl Keeper {
    pub(crate) fn open(config: &LedgerConfig) -> Result<Self, Error> {
        Ok(match config {
            LedgerConfig::Keep { folder } => Self::Kept(Arc::new(
                Kept::open(folder).map_err(|error| Error::Disk(format!("{}: {error}", folder.display())))?,
            )),
            LedgerConfig::Lease { url, key } => Self::Far(Box::new(Far::new(url, key)?)),
        })
    }

    async fn ask(&self, shared: &Shared, bounds: Bounds, ask: &Ask) -> Result<Answer, Error> {
        match self {
            Self::Kept(kept) => kept.ask(shared.clock.now(), bounds, ask).await,
            Self::Far(far) => far.ask(&shared.upstream, ask).await,
        }
    }
}

/// A number that no other run of any gateway has.
fn fresh() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Ends the work beside the requests when it is dropped.
pub(crate) struct Work(Option<JoinHandle<()>>);

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Begins to tell the keeper what nobody waits for.
pub(crate) fn start(gateway: &Gateway) -> Work {
    let shares = gateway.shared.accounts.shares.is_some();
    Work(shares.then(|| tokio::spawn(shares::tell(gateway.clone()))))
}

/// Gives all back.
pub(crate) async fn end(gateway: &Gateway) {
    if let Some(shares) = &gateway.shared.accounts.shares {
        shares.end(&gateway.shared).await;
    }
}
