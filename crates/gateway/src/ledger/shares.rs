//! What this gateway holds of each caller's bounds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use dh_core::time::Span;
use dh_core::{Grant, SimTime};
use dh_policy::ledger::{Bound, Bounds, Lessee, Ticket, Use};
use tokio::time::Instant;

use super::{Keeper, LedgerConfig, fresh};
use crate::config::ACCOUNTS_MAX;
use crate::error::Limit;
use crate::gateway::Shared;
use crate::{Error, Gateway};

/// Messages for one request: a message that was under way already may have wanted less.
const ROUNDS: usize = 4;
/// What nobody waits for is told so often.
const TELL: Duration = Duration::from_secs(1);
/// A caller that was silent so long gives its money back.
const IDLE: Span = Span::from_secs(30);
/// A far keeper that refused is not asked again for as much by the same caller before that.
const REFUSED: Duration = Duration::from_millis(50);
/// At the end, for a keeper that does not answer.
const LEAVE: Duration = Duration::from_secs(3);

pub(crate) struct Shares {
    pub(crate) keeper: Keeper,
    by_caller: RwLock<HashMap<String, Arc<Share>>>,
}

/// One caller's.
pub(crate) struct Share {
    lessee: Mutex<Lessee>,
    /// Held by the one who asks; others wait for what it gets.
    asking: tokio::sync::Mutex<Option<Refused>>,
}

/// What the keeper refused last.
struct Refused {
    when: Instant,
    asked: Use,
    bound: Bound,
    most: u64,
    wait: Option<Span>,
}

impl Share {
    // No step of a lessee can panic half-way, so a poisoned lock still guards a sound one.
    fn lessee(&self) -> MutexGuard<'_, Lessee> {
        self.lessee.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settle(&self, ticket: &Ticket, used: Use) {
        self.lessee().settle(ticket, used);
    }
}

impl Shares {
    pub(crate) fn open(config: &LedgerConfig) -> Result<Self, Error> {
        Ok(Self { keeper: Keeper::open(config)?, by_caller: RwLock::default() })
    }

    /// Reserves `most` for one request of `caller`.
    pub(crate) async fn reserve(
        &self,
        shared: &Shared,
        caller: &str,
        grant: &Grant,
        most: Use,
    ) -> Result<(Arc<Share>, Ticket), Error> {
        let share = self.of(caller)?;
        let held = share.lessee().take(shared.clock.now(), most);
        let ticket = match held {
            Ok(ticket) => ticket,
            Err(_) => self.fetch(shared, &share, caller, grant, most).await?,
        };
        Ok((share, ticket))
    }

    async fn fetch(
        &self,
        shared: &Shared,
        share: &Share,
        caller: &str,
        grant: &Grant,
        most: Use,
    ) -> Result<Ticket, Error> {
        let limited = |bound: Bound, most_of: u64, wait: Option<Span>| {
            let asked = match bound {
                Bound::Requests => 1,
                Bound::Tokens => most.tokens,
                Bound::Budget => most.micro_usd,
            };
            Error::Limited(Limit { caller: caller.to_owned(), bound, most: most_of, asked, wait })
        };
        let mut turn = share.asking.lock().await;
        for _ in 0..ROUNDS {
            let now = shared.clock.now();
            if let Ok(ticket) = share.lessee().take(now, most) {
                return Ok(ticket);
            }
            if let Some(refused) = turn.as_ref().filter(|refused| refused.holds(most)) {
                return Err(limited(refused.bound, refused.most, refused.wait));
            }
            let own = !share.lessee().waits();
            let told = self.tell(shared, share, Bounds::from(grant), now, Some(most), false).await?;
            // It may have been the wish of an earlier request that was refused.
            if own && let Err((bound, most_of, wait)) = told {
                if matches!(self.keeper, Keeper::Far(_)) {
                    *turn = Some(Refused { when: Instant::now(), asked: most, bound, most: most_of, wait });
                }
                return Err(limited(bound, most_of, wait));
            }
        }
        Err(Error::Busy("others of this key took what was free"))
    }

    /// One message. The inner error is the keeper's refusal of a wish.
    async fn tell(
        &self,
        shared: &Shared,
        share: &Share,
        bounds: Bounds,
        now: SimTime,
        wants: Option<Use>,
        ends: bool,
    ) -> Result<Result<(), (Bound, u64, Option<Span>)>, Error> {
        let ask = share.lessee().ask(now, wants, ends);
        let answer = self.keeper.ask(shared, bounds, &ask).await?;
        Ok(share.lessee().answered(ask.seq, answer, fresh()))
    }

    fn of(&self, caller: &str) -> Result<Arc<Share>, Error> {
        if let Some(share) = self.by_caller.read().unwrap_or_else(PoisonError::into_inner).get(caller) {
            return Ok(Arc::clone(share));
        }
        let mut all = self.by_caller.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= ACCOUNTS_MAX && !all.contains_key(caller) {
            return Err(Error::Busy("too many callers have accounts"));
        }
        let share = || {
            Arc::new(Share { lessee: Mutex::new(Lessee::new(fresh(), caller)), asking: tokio::sync::Mutex::default() })
        };
        Ok(Arc::clone(all.entry(caller.to_owned()).or_insert_with(share)))
    }

    fn all(&self) -> Vec<(String, Arc<Share>)> {
        let all = self.by_caller.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(caller, share)| (caller.clone(), Arc::clone(share))).collect()
    }

    /// Gives all back.
    pub(crate) async fn end(&self, shared: &Shared) {
        let all = async {
            for (caller, share) in self.all() {
                let _turn = share.asking.lock().await;
                // A message without an answer goes first.
                for _ in 0..2 {
                    if share.lessee().holds() {
                        self.news(shared, &caller, &share, true).await;
                    }
                }
            }
        };
        if tokio::time::timeout(LEAVE, all).await.is_err() {
            tracing::warn!("the keeper of the ledger was not told all; what it was not told counts as used");
        }
    }

    async fn news(&self, shared: &Shared, caller: &str, share: &Share, ends: bool) {
        let bounds = shared.auth.grant(caller).map(|grant| Bounds::from(&*grant)).unwrap_or_default();
        // A failure is logged where it happened, and the message goes out again later.
        drop(self.tell(shared, share, bounds, shared.clock.now(), None, ends).await);
    }
}

impl Refused {
    /// Whether the keeper would refuse `most` likewise.
    fn holds(&self, most: Use) -> bool {
        let Use { tokens, micro_usd } = self.asked;
        let as_much = match self.bound {
            Bound::Requests => true,
            Bound::Tokens => most.tokens >= tokens,
            Bound::Budget => most.micro_usd >= micro_usd,
        };
        as_much && self.when.elapsed() < REFUSED
    }
}

/// Tells what nobody waits for, until the gateway ends.
pub(crate) async fn tell(gateway: Gateway) {
    let shared = &gateway.shared;
    let Some(shares) = &shared.accounts.shares else { return };
    let mut turns = tokio::time::interval(TELL);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        for (caller, share) in shares.all() {
            let now = shared.clock.now();
            let ends = share.lessee().is_idle(now, IDLE);
            if ends || share.lessee().has_news(now) {
                let _turn = share.asking.lock().await;
                shares.news(shared, &caller, &share, ends).await;
            }
        }
    }
}
