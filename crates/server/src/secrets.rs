//! Secrets of jobs: values that ranks get in their environment and nobody else sees.
//!
//! A job's specification, and so the event log, holds names alone. The values lie beside the log, sealed by a key that follows from
//! the hall's own (see [`dh_guard::Sealer`]), so every server of the hall can start the job. A value is either one that the hall keeps
//! under a name of its own (`datahall secrets`), or came with a job; that one goes when the hall forgets the job, because until then
//! its logs can be read, and are shown without it.
//!
//! Invariant: a value leaves this module to an executor, as [`GangSpec::secret_env`](dh_exec::GangSpec::secret_env), or to
//! [`Hider`], which gives nothing away. All calls that reach the journal block.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dh_core::Secret;
use dh_guard::{KeyRing, Sealer};
use dh_hall::{Hall, JobSpec};

use crate::Error;
use crate::body::Handle;
use crate::log::{Journal, LogPlace};
use crate::wire::SecretSource;

/// Variables of one job that are secrets.
const SECRETS_OF_JOB_MAX: usize = 64;
/// The longest value. What the kernel passes to a program in one variable is 128 KiB.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// All values of a job together; its environment and command need room beside them.
const JOB_VALUES_BYTES_MAX: usize = 128 << 10;
/// How often secrets are looked at whose jobs may be gone.
const SWEEP: Duration = Duration::from_mins(5);
/// The longest name.
const NAME_BYTES_MAX: usize = 100;
/// Values that the hall keeps under names of their own.
const KEPT_MAX: usize = 10_000;
/// What the names of values that came with a job begin with; no name of a kept one has a slash.
const OF_JOB: &str = "job/";
/// A piece of a value that is hidden in logs has so many characters at least: shorter ones are in every other line.
const HIDDEN_CHARS_MIN: usize = 4;

/// The secrets of a hall.
pub(crate) struct Secrets {
    place: LogPlace,
    term: u64,
    sealer: Sealer,
    /// Opened when it is first needed.
    journal: Mutex<Option<Box<dyn Journal>>>,
    /// Values whose job is not in the hall yet.
    coming: Mutex<BTreeSet<String>>,
}

impl Secrets {
    pub(crate) fn new(place: LogPlace, term: u64, keys: &KeyRing) -> Result<Self, Error> {
        Ok(Self { place, term, sealer: keys.sealer()?, journal: Mutex::default(), coming: Mutex::default() })
    }

    /// Keeps `value` under `name`.
    pub(crate) fn keep(&self, name: &str, value: &Secret<String>) -> Result<(), Error> {
        check_name(name)?;
        check_value(value)?;
        let kept = self.names()?;
        if kept.len() >= KEPT_MAX && !kept.iter().any(|kept| kept == name) {
            return Err(Error::Invalid(format!("{KEPT_MAX} secrets are kept, and that is the limit")));
        }
        self.write(name, value)
    }

    /// Ends the one called `name`. Ranks that have it keep it.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        self.with(|journal| journal.secret(name))?.ok_or_else(|| missing(name))?;
        self.with(|journal| journal.keep_secret(self.term, name, None))
    }

    /// The names of those that the hall keeps, in order.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = self.with(|journal| journal.secrets())?;
        names.retain(|name| !name.starts_with(OF_JOB));
        Ok(names)
    }

    /// The names under which the values of a job that is about to be submitted lie, by variable.
    pub(crate) fn take_in(
        &self,
        wanted: BTreeMap<String, SecretSource>,
        env: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Error> {
        if wanted.len() > SECRETS_OF_JOB_MAX {
            return Err(Error::Invalid(format!("a job has at most {SECRETS_OF_JOB_MAX} secrets")));
        }
        for (variable, source) in &wanted {
            check_variable(variable, env)?;
            if let SecretSource::Kept(name) = source {
                check_kept(name)?;
                self.with(|journal| journal.secret(name))?.ok_or_else(|| missing(name))?;
            }
        }
        let sizes = wanted.values().map(|source| match source {
            SecretSource::Kept(_) => 0,
            SecretSource::Value { value } => value.len(),
        });
        if sizes.sum::<usize>() > JOB_VALUES_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the secrets of a job have {JOB_VALUES_BYTES_MAX} bytes at most together"
            )));
        }
        let mut names = BTreeMap::new();
        for (variable, source) in wanted {
            let name = match source {
                SecretSource::Kept(name) => name,
                SecretSource::Value { value } => {
                    let value = value.into_secret();
                    check_value(&value)?;
                    let name = fresh_name()?;
                    self.coming().insert(name.clone());
                    self.write(&name, &value)?;
                    name
                }
            };
            names.insert(variable, name);
        }
        Ok(names)
    }

    /// The job of these names is in the hall, or was refused. What has no job then goes with the next sweep.
    pub(crate) fn arrived(&self, names: &BTreeMap<String, String>) {
        let mut coming = self.coming();
        coming.retain(|name| !names.values().any(|arrived| arrived == name));
    }

    /// The values of a job, by variable.
    pub(crate) fn of(&self, spec: &JobSpec) -> Result<BTreeMap<String, Secret<String>>, Error> {
        let value = |(variable, name): (&String, &String)| {
            let sealed = self.with(|journal| journal.secret(name))?.ok_or_else(|| missing(name))?;
            let value = self.sealer.open(name, &sealed).ok_or_else(|| {
                Error::Invalid(format!("the secret `{name}` was sealed for a hall with other keys; set it again"))
            })?;
            Ok((variable.clone(), value))
        };
        spec.secrets.iter().map(value).collect()
    }

    /// What hides the values of a job in its logs. A value that is gone cannot be hidden.
    pub(crate) fn hider(&self, spec: &JobSpec) -> Hider {
        let mut values = Vec::new();
        for name in spec.secrets.values() {
            let sealed = self.with(|journal| journal.secret(name));
            values.extend(sealed.ok().flatten().and_then(|sealed| self.sealer.open(name, &sealed)));
        }
        Hider::new(&values)
    }

    /// Ends the values that came with jobs which the hall does not know any more.
    pub(crate) fn sweep(&self, hall: impl FnOnce() -> BTreeSet<String>) -> Result<(), Error> {
        let mut names = self.with(|journal| journal.secrets())?;
        names.retain(|name| name.starts_with(OF_JOB));
        if names.is_empty() {
            return Ok(());
        }
        // In this order: a job's names leave the first set when the second has them.
        let coming = self.coming().clone();
        let used = hall();
        for name in names.iter().filter(|name| !coming.contains(*name) && !used.contains(*name)) {
            self.with(|journal| journal.keep_secret(self.term, name, None))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, value: &Secret<String>) -> Result<(), Error> {
        let sealed = self.sealer.seal(name, value)?;
        self.with(|journal| journal.keep_secret(self.term, name, Some(&sealed)))
    }

    /// Asks the journal; a connection that has broken is made once more.
    fn with<T>(&self, mut ask: impl FnMut(&mut dyn Journal) -> Result<T, Error>) -> Result<T, Error> {
        let mut kept = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut journal) = kept.take() {
            match ask(journal.as_mut()) {
                Err(Error::Log { .. }) => {}
                outcome => {
                    *kept = Some(journal);
                    return outcome;
                }
            }
        }
        let mut journal = self.place.open()?;
        let outcome = ask(journal.as_mut());
        if outcome.is_ok() {
            *kept = Some(journal);
        }
        outcome
    }

    fn coming(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends secrets whose jobs are forgotten, every now and then, until the server stops.
pub(crate) async fn keep_swept(
    secrets: Arc<Secrets>,
    hall: Handle,
    stopped: impl Future<Output = ()>,
) -> Result<(), Error> {
    let sweeping = async {
        loop {
            tokio::time::sleep(SWEEP).await;
            let (secrets, hall) = (Arc::clone(&secrets), hall.clone());
            let swept = tokio::task::spawn_blocking(move || secrets.sweep(|| used(&hall.read()))).await;
            if let Ok(Err(error)) = swept {
                tracing::warn!(%error, "secrets of jobs that are gone were not removed; trying again later");
            }
        }
    };
    tokio::select! {
        () = sweeping => {}
        () = stopped => {}
    }
    Ok(())
}

/// The names of values that jobs of `hall` use.
fn used(hall: &Hall) -> BTreeSet<String> {
    hall.jobs().flat_map(|job| job.spec.secrets.values().cloned()).collect()
}

fn missing(name: &str) -> Error {
    let what = if name.starts_with(OF_JOB) { "a secret of this job".to_owned() } else { format!("secret `{name}`") };
    Error::NotFound(format!("{what}; `datahall secrets` lists those that the hall keeps"))
}

fn fresh_name() -> Result<String, Error> {
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).map_err(|error| Error::Invalid(format!("no randomness for a name: {error}")))?;
    Ok(format!("{OF_JOB}{}", hex::encode(random)))
}

fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(Error::Invalid(format!(
            "a secret's name has 1 to {NAME_BYTES_MAX} letters, digits, `.`, `_` or `-`; `{}` has not",
            name.chars().take(NAME_BYTES_MAX).flat_map(char::escape_debug).collect::<String>()
        )));
    }
    Ok(())
}

/// The name of a kept one in a job; `env:` and `file:` are for whoever submits.
fn check_kept(name: &str) -> Result<(), Error> {
    if let Some((scheme @ ("env" | "file"), _)) = name.split_once(':') {
        return Err(Error::Invalid(format!(
            "`{scheme}:` is read where the job is submitted, by `datahall submit`; to the API send `{{\"value\": ...}}`"
        )));
    }
    check_name(name)
}

fn check_value(value: &Secret<String>) -> Result<(), Error> {
    let value = value.expose();
    if value.is_empty() || value.len() > VALUE_BYTES_MAX || value.contains('\0') {
        return Err(Error::Invalid(format!("a secret has 1 to {VALUE_BYTES_MAX} bytes, none of them zero")));
    }
    Ok(())
}

fn check_variable(variable: &str, env: &BTreeMap<String, String>) -> Result<(), Error> {
    let begins = variable.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let rest = variable.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !begins || !rest || variable.len() > NAME_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "a secret is given to ranks as a variable, and `{}` is no name of one",
            variable.chars().take(NAME_BYTES_MAX).flat_map(char::escape_debug).collect::<String>()
        )));
    }
    if env.contains_key(variable) {
        return Err(Error::Invalid(format!("`{variable}` is in `env` and in `secrets`")));
    }
    Ok(())
}

/// Hides values in text.
#[derive(Clone, Default)]
pub(crate) struct Hider {
    /// Longer ones first, so that none is hidden in part.
    pieces: Arc<Vec<Secret<String>>>,
}

impl Hider {
    /// Hides `values`, and each line of one with several.
    fn new(values: &[Secret<String>]) -> Self {
        let lines =
            values.iter().flat_map(|value| value.expose().lines().map(str::trim).chain([value.expose().trim()]));
        let mut pieces: Vec<&str> = lines.filter(|line| line.chars().count() >= HIDDEN_CHARS_MIN).collect();
        pieces.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        pieces.dedup();
        Self { pieces: Arc::new(pieces.into_iter().map(|piece| Secret::new(piece.to_owned())).collect()) }
    }

    /// `text` with `***` where a value was.
    pub(crate) fn hide(&self, text: String) -> String {
        self.pieces.iter().fold(text, |text, piece| {
            if text.contains(piece.expose().as_str()) { text.replace(piece.expose().as_str(), "***") } else { text }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Hidden;

    fn secrets(folder: &std::path::Path) -> Secrets {
        let keys = KeyRing::load_or_create(folder.join("keys.json")).unwrap();
        if keys.keys().is_empty() {
            keys.issue(dh_core::Role::Admin, "admin").unwrap();
        }
        let place = LogPlace::File(folder.join("log.sqlite"));
        place.open().unwrap().claim("me", crate::log::LEASE).unwrap();
        Secrets::new(place, 1, &keys).unwrap()
    }

    fn value(text: &str) -> SecretSource {
        SecretSource::Value { value: Hidden::new(text.to_owned()) }
    }

    #[test]
    fn values_lie_sealed_and_go_when_no_job_uses_them() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets(folder.path());
        secrets.keep("hub", &Secret::new("kept-sesame".to_owned())).unwrap();
        let wanted = BTreeMap::from([
            ("TOKEN".to_owned(), value("job-sesame")),
            ("HUB".to_owned(), SecretSource::Kept("hub".to_owned())),
        ]);
        let names = secrets.take_in(wanted, &BTreeMap::new()).unwrap();
        let spec = JobSpec { secrets: names.clone(), ..crate::launch::plain_for_tests() };
        let of = secrets.of(&spec).unwrap();
        assert_eq!((of["TOKEN"].expose().as_str(), of["HUB"].expose().as_str()), ("job-sesame", "kept-sesame"));
        for file in std::fs::read_dir(folder.path()).unwrap().flatten() {
            let bytes = std::fs::read(file.path()).unwrap();
            assert!(!bytes.windows(6).any(|six| six == b"sesame"), "{:?} holds a value", file.path());
        }
        // On its way, used by a job, and neither.
        secrets.sweep(BTreeSet::new).unwrap();
        assert!(secrets.of(&spec).is_ok());
        secrets.arrived(&names);
        secrets.sweep(|| names.values().cloned().collect()).unwrap();
        assert!(secrets.of(&spec).is_ok());
        secrets.sweep(BTreeSet::new).unwrap();
        assert!(secrets.of(&spec).unwrap_err().to_string().contains("a secret of this job"));
        assert_eq!(secrets.names().unwrap(), ["hub"], "a kept one stays");
        secrets.remove("hub").unwrap();
        assert!(matches!(secrets.remove("hub"), Err(Error::NotFound(_))));
    }

    #[test]
    fn wrong_names_and_values_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = secrets(folder.path());
        let env = BTreeMap::from([("TWICE".to_owned(), String::new())]);
        for (variable, source, part) in [
            ("TWICE", value("x"), "in `env` and in `secrets`"),
            ("1X", value("x"), "no name of one"),
            ("X=Y", value("x"), "no name of one"),
            ("X", value(""), "1 to 65536 bytes"),
            ("X", value("a\0b"), "none of them zero"),
            ("X", SecretSource::Kept("nobody".to_owned()), "secret `nobody`"),
            ("X", SecretSource::Kept("env:HOME".to_owned()), "read where the job is submitted"),
            ("X", SecretSource::Kept("job/1".to_owned()), "letters, digits"),
        ] {
            let wanted = BTreeMap::from([(variable.to_owned(), source)]);
            let error = secrets.take_in(wanted, &env).unwrap_err().to_string();
            assert!(error.contains(part), "{variable}: {error}");
        }
        assert!(secrets.keep("job/1", &Secret::new("x".to_owned())).is_err());
    }

    #[test]
    fn values_are_hidden_whole_and_line_by_line() {
        let values = ["open sesame", "sesame", "-----BEGIN\nabcdef\n", "abc"].map(|text| Secret::new(text.to_owned()));
        let hider = Hider::new(&values);
        assert_eq!(hider.hide("x open sesame y sesame z".to_owned()), "x *** y *** z");
        assert_eq!(hider.hide("key abcdef, abc".to_owned()), "key ***, abc");
    }
}
