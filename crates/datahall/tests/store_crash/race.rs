//! Many clients write the same new key at once, each on the condition that it is new: at most one may be told that it was
//! first, and its body is the one that stays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::bucket::Bucket;
use crate::dice::{Dice, Recipe};
use crate::site::{Reply, Site, pause};

/// What is known of one key that was raced for.
#[derive(Default)]
struct Finish {
    won: Vec<Recipe>,
    /// Tries whose answer never came.
    unknown: Vec<Recipe>,
    lost: u64,
}

/// The races of all clients.
#[derive(Default)]
pub struct Races {
    current: AtomicU64,
    finishes: Mutex<BTreeMap<u64, Finish>>,
}

fn key(race: u64) -> String {
    format!("race/{race}")
}

impl Races {
    /// One try in the race that is on.
    pub fn run(&self, site: &Site, bucket: &Bucket, dice: &mut Dice) {
        let race = self.current.load(Ordering::SeqCst);
        let recipe = Recipe::of_any_size(dice);
        let reply = bucket.put_if(&key(race), &recipe.make(), ("if-none-match", "*"));
        let mut finishes = self.finishes.lock().unwrap();
        let finish = finishes.entry(race).or_default();
        match reply {
            Reply::Yes(()) => finish.won.push(recipe),
            // Two at once: one of them may be asked to come again.
            Reply::No(409 | 412, _) => finish.lost += 1,
            Reply::No(status, text) => site.violation(format!("race {race}: refused: {status} {text}")),
            Reply::Unknown => {
                finish.unknown.push(recipe);
                drop(finishes);
                pause();
                return;
            }
        }
        // Decided: whoever comes next takes the next key. Many tries are under way and count all the same.
        self.current.fetch_max(race + 1, Ordering::SeqCst);
    }

    /// On a server that runs; returns how many races were run, and how many tries lost.
    pub fn check(&self, site: &Arc<Site>) -> (usize, u64) {
        let bucket = Bucket::new(site);
        let finishes = self.finishes.lock().unwrap();
        for (race, finish) in finishes.iter() {
            let found = match bucket.get(&key(*race)) {
                Reply::Yes(found) => found,
                other => {
                    site.violation(format!("race {race}: the last reading failed: {other:?}"));
                    continue;
                }
            };
            let is = |recipe: &Recipe| found.as_deref() == Some(recipe.make().as_slice());
            let right = match finish.won.as_slice() {
                [one] => is(one),
                [] if finish.lost > 0 => finish.unknown.iter().any(is),
                [] => found.is_none() || finish.unknown.iter().any(is),
                many => {
                    site.violation(format!("race {race}: {} were told that they were first", many.len()));
                    true
                }
            };
            if !right {
                site.violation(format!("race {race}: the body is not the winner's"));
            }
        }
        (finishes.len(), finishes.values().map(|finish| finish.lost).sum())
    }
}
