//! Sweeps the buckets that have a lifecycle document, as often as it makes a difference.
//!
//! What a rule means is the engine's (`crate::lifecycle`). Cost: a walk over those buckets, once an hour or a quarter of a
//! trial day.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::bucket::document;
use super::job::Front;
use super::lifecycle;
use super::xml::Node;
use crate::{Calendar, DAY_MS, Error, Rule, Store};

/// Sweeps until the listener stops.
pub(super) async fn run(front: Arc<Front>, mut stopping: watch::Receiver<bool>) {
    let day_ms = lifecycle::calendar(&front).day_ms;
    let rest = if day_ms == DAY_MS { Duration::from_hours(1) } else { Duration::from_millis((day_ms / 4).max(500)) };
    loop {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _stopped = stopping.wait_for(|stop| *stop) => return,
        }
        if let Err(error) = sweep(&front.store, lifecycle::calendar(&front)).await {
            tracing::warn!(%error, "a sweep of the lifecycles broke off");
        }
    }
}

async fn sweep(store: &Store, calendar: Calendar) -> Result<(), Error> {
    for bucket in store.buckets().await? {
        let bytes = match store.document(&bucket.name, document::LIFECYCLE).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(Error::NoSuchBucket(_)) => continue,
            Err(error) => return Err(error),
        };
        let Ok(root) = Node::parse(&bytes) else {
            tracing::error!(bucket = bucket.name, "a stored lifecycle cannot be read");
            continue;
        };
        let rules: Vec<Rule> = lifecycle::rules(&root).into_iter().map(|(_id, rule)| rule).collect();
        match store.sweep(&bucket.name, &rules, calendar).await {
            // Somebody removed the bucket while it was walked.
            Ok(_) | Err(Error::NoSuchBucket(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
