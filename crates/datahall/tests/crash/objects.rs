//! Writers of objects, and what each of them knows for certain.
//!
//! A writer owns its keys. For each it keeps the set of states that the object may have: the last acknowledged one, and
//! those whose acknowledgement never came. Whatever is read must be one of them, byte by byte, and stays it from then on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::bucket::Bucket;
use crate::dice::{Dice, Recipe};
use crate::site::{Reply, Site, pause};

/// Keys of one writer: few, so that they are often overwritten and deleted.
const KEYS: u64 = 48;

/// The smallest part of an upload that is not its last; S3's own limit.
const PART_BYTES: u64 = 5 << 20;

/// `None` is an object that does not exist, else the parts of its body.
type State = Option<Vec<Recipe>>;

/// What a writer knows of its objects, and what it was told.
#[derive(Default)]
pub struct Ledger {
    pub objects: BTreeMap<String, Vec<State>>,
    pub puts: u64,
    /// Those of them that had a condition are counted here instead.
    pub conditional: u64,
    pub deletes: u64,
    pub uploads: u64,
    pub reads: u64,
    /// Calls whose answer never came.
    pub unknown: u64,
}

impl Ledger {
    pub fn merge(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.puts += other.puts;
        self.conditional += other.conditional;
        self.deletes += other.deletes;
        self.uploads += other.uploads;
        self.reads += other.reads;
        self.unknown += other.unknown;
    }
}

struct Writer {
    site: Arc<Site>,
    bucket: Bucket,
    dice: Dice,
    ledger: Ledger,
}

/// Writes until the site wants no more.
pub fn write(site: Arc<Site>, number: u64, seed: u64) -> Ledger {
    let bucket = Bucket::new(&site);
    let mut writer = Writer { site, bucket, dice: Dice::new(seed, 10 + number), ledger: Ledger::default() };
    while !writer.site.stopping() {
        let key = format!("writer-{number}/{}/object", writer.dice.below(KEYS));
        match writer.dice.below(40) {
            0..=16 => writer.put(&key),
            17..=18 => writer.create(&key),
            19..=20 => writer.replace(&key),
            21..=25 => writer.delete(&key),
            26 => writer.upload(&key),
            _ => writer.read(&key),
        }
        std::thread::sleep(Duration::from_millis(writer.dice.below(8)));
    }
    writer.ledger
}

impl Writer {
    fn put(&mut self, key: &str) {
        let recipe = Recipe::of_any_size(&mut self.dice);
        let reply = self.bucket.put(key, &recipe.make());
        self.ledger.puts += u64::from(matches!(reply, Reply::Yes(())));
        self.settle(key, Some(vec![recipe]), reply);
    }

    /// Writes if there is nothing.
    fn create(&mut self, key: &str) {
        let recipe = Recipe::of_any_size(&mut self.dice);
        let may_be = self.may_be(key);
        let [free, taken] = [may_be.contains(&None), may_be.iter().any(Option::is_some)];
        let reply = self.bucket.put_if(key, &recipe.make(), ("if-none-match", "*"));
        match reply {
            Reply::No(412, _) if taken => self.may_be(key).retain(Option::is_some),
            Reply::Yes(()) if !free => {
                self.site.violation(format!("{key}: what had to be new was written over an acknowledged object"));
            }
            Reply::Unknown if !free => pause(),
            other => {
                self.ledger.conditional += u64::from(matches!(other, Reply::Yes(())));
                self.settle(key, Some(vec![recipe]), other);
            }
        }
    }

    /// Writes over what is there, if that is still what it was.
    fn replace(&mut self, key: &str) {
        let Reply::Yes(Some(tag)) = self.bucket.tag(key) else { return };
        let recipe = Recipe::of_any_size(&mut self.dice);
        // Nobody else writes this key, so the condition holds.
        let reply = self.bucket.put_if(key, &recipe.make(), ("if-match", &tag));
        self.ledger.conditional += u64::from(matches!(reply, Reply::Yes(())));
        self.settle(key, Some(vec![recipe]), reply);
    }

    fn may_be(&mut self, key: &str) -> &mut Vec<State> {
        self.ledger.objects.entry(key.to_owned()).or_insert_with(|| vec![None])
    }

    fn delete(&mut self, key: &str) {
        let reply = self.bucket.delete(key);
        self.ledger.deletes += u64::from(matches!(reply, Reply::Yes(())));
        self.settle(key, None, reply);
    }

    /// The object was to become `state`.
    fn settle(&mut self, key: &str, state: State, reply: Reply<()>) {
        let may_be = self.may_be(key);
        match reply {
            Reply::Yes(()) => *may_be = vec![state],
            Reply::Unknown => {
                may_be.push(state);
                self.ledger.unknown += 1;
                pause();
            }
            Reply::No(status, text) => self.site.violation(format!("{key}: a write was refused: {status} {text}")),
        }
    }

    /// A multipart upload. Each step goes on with what the server acknowledged before it died.
    fn upload(&mut self, key: &str) {
        let Some(upload) = self.insist(key, |bucket| bucket.create_upload(key)) else { return };
        let parts = 1 + self.dice.below(2);
        let mut recipes = Vec::new();
        let mut tags = Vec::new();
        for part in 1..=parts {
            let bytes = if part < parts { PART_BYTES } else { 1 + self.dice.below(200 << 10) };
            let recipe = Recipe::of_size(&mut self.dice, bytes);
            let body = recipe.make();
            let number = u16::try_from(part).unwrap();
            let Some(tag) = self.insist(key, |bucket| bucket.upload_part(key, &upload, number, &body)) else { return };
            recipes.push(recipe);
            tags.push(tag);
        }
        let mut tried = false;
        while !self.site.stopping() {
            let reply = match self.bucket.complete(key, &upload, &tags) {
                // Nobody else ends this upload, so an earlier call did, whose answer never came.
                Reply::No(404, text) if tried && text.contains("NoSuchUpload") => Reply::Yes(()),
                other => other,
            };
            let over = !matches!(reply, Reply::Unknown);
            self.ledger.uploads += u64::from(matches!(reply, Reply::Yes(())));
            self.settle(key, Some(recipes.clone()), reply);
            if over {
                return;
            }
            tried = true;
        }
    }

    /// Calls until there is an answer; `None` if that was a refusal, or no more load is wanted.
    fn insist<T>(&mut self, key: &str, call: impl Fn(&Bucket) -> Reply<T>) -> Option<T> {
        while !self.site.stopping() {
            match call(&self.bucket) {
                Reply::Yes(value) => return Some(value),
                Reply::Unknown => {
                    self.ledger.unknown += 1;
                    pause();
                }
                Reply::No(status, text) => {
                    self.site.violation(format!("{key}: a step of an upload was refused: {status} {text}"));
                    return None;
                }
            }
        }
        None
    }

    fn read(&mut self, key: &str) {
        let may_be = self.ledger.objects.entry(key.to_owned()).or_insert_with(|| vec![None]);
        match self.bucket.get(key) {
            Reply::Unknown => pause(),
            Reply::No(status, text) => self.site.violation(format!("{key}: reading was refused: {status} {text}")),
            Reply::Yes(found) => {
                self.ledger.reads += 1;
                match recognise(may_be, found.as_deref()) {
                    // Seen once, it stays: the others belong to servers that are dead, or were overtaken.
                    Some(state) => *may_be = vec![state],
                    None => self.site.violation(not_recognised(key, may_be, found.as_deref())),
                }
            }
        }
    }
}

/// Which of the states `found` is. The newest is tried first.
fn recognise(may_be: &[State], found: Option<&[u8]>) -> Option<State> {
    may_be.iter().rev().find(|state| is(state.as_deref(), found)).cloned()
}

fn is(state: Option<&[Recipe]>, found: Option<&[u8]>) -> bool {
    match (state, found) {
        (None, None) => true,
        (Some(parts), Some(mut found)) => {
            let length: u64 = parts.iter().map(|part| part.bytes).sum();
            u64::try_from(found.len()).unwrap() == length
                && parts.iter().all(|part| {
                    let (head, tail) = found.split_at(usize::try_from(part.bytes).unwrap());
                    found = tail;
                    head == part.make()
                })
        }
        _ => false,
    }
}

fn not_recognised(key: &str, may_be: &[State], found: Option<&[u8]>) -> String {
    let found =
        found.map(|found| format!("{} bytes beginning with {:02x?}", found.len(), &found[..found.len().min(16)]));
    format!("{key}: lost or torn: found {found:?}, and it may be {may_be:?}")
}

/// Reads everything and lists everything, on a server that runs. Returns how many objects there are.
pub fn check(site: &Arc<Site>, ledger: &Ledger) -> usize {
    let bucket = Bucket::new(site);
    let mut there = BTreeMap::new();
    for (key, may_be) in &ledger.objects {
        match bucket.get(key) {
            Reply::Yes(found) => {
                if recognise(may_be, found.as_deref()).is_none() {
                    site.violation(not_recognised(key, may_be, found.as_deref()));
                }
                if let Some(found) = found {
                    there.insert(key.clone(), u64::try_from(found.len()).unwrap());
                }
            }
            other => site.violation(format!("{key}: the last reading failed: {other:?}")),
        }
    }
    // Pages of 7, so that a listing of many pages is tested, too.
    match bucket.list(7) {
        Reply::Yes(listed) => {
            // Others than the writers may have keys beside theirs.
            let listed: BTreeMap<String, u64> =
                listed.into_iter().filter(|(key, _)| key.starts_with("writer-")).collect();
            if listed != there {
                let only = |a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>| {
                    a.iter()
                        .filter(|(key, size)| b.get(*key) != Some(size))
                        .map(|(key, _)| key.clone())
                        .collect::<Vec<_>>()
                };
                site.violation(format!(
                    "listing and reading disagree: only listed {:?}, only readable {:?}",
                    only(&listed, &there),
                    only(&there, &listed)
                ));
            }
        }
        other => site.violation(format!("the last listing failed: {other:?}")),
    }
    there.len()
}

#[test]
fn a_torn_or_stale_body_is_not_recognised() {
    let mut dice = Dice::new(1, 0);
    let [old, new] = [5_000, 5_000].map(|bytes| Recipe::of_size(&mut dice, bytes));
    let may_be = vec![None, Some(vec![new, old])];
    let mut whole = [new.make(), old.make()].concat();
    assert_eq!(recognise(&may_be, Some(&whole)), may_be[1].clone().into());
    assert_eq!(recognise(&may_be, None), Some(None));
    assert_eq!(recognise(&may_be, Some(&old.make())), None);
    assert_eq!(recognise(&may_be, Some(&whole[..9_999])), None);
    whole[9_999] ^= 1;
    assert_eq!(recognise(&may_be, Some(&whole)), None);
    assert_eq!(recognise(&may_be[1..], None), None);
}
