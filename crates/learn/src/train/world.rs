//! Which rank this process is, and where the others are.

use std::env;
use std::time::Duration;

use dh_core::Secret;

use super::Error;

/// The gang as one of its ranks sees it.
#[derive(Debug, Clone)]
pub struct World {
    /// This rank, from 0.
    pub rank: u32,
    /// How many ranks there are.
    pub ranks: u32,
    /// Which try of the job this is, from 1.
    pub attempt: u32,
    /// Where rank 0 listens, `host:port`.
    pub master: String,
    /// What all ranks of the gang know and nobody else.
    pub token: Secret<String>,
    /// How long the ranks wait for each other at the start.
    pub gather_timeout: Duration,
    /// How long a connected peer may stand still. Longer than a rank tries to reach a store that is away.
    pub peer_timeout: Duration,
}

/// The processes of a gang start within seconds of each other.
const GATHER_TIMEOUT: Duration = Duration::from_secs(30);
const PEER_TIMEOUT: Duration = Duration::from_secs(30);

impl World {
    /// A single rank that needs nobody.
    pub fn alone() -> Self {
        Self {
            rank: 0,
            ranks: 1,
            attempt: 1,
            master: String::new(),
            token: Secret::new(String::new()),
            gather_timeout: GATHER_TIMEOUT,
            peer_timeout: PEER_TIMEOUT,
        }
    }

    /// The world as the launcher put it into the environment: `DH_RANK`, `DH_RANKS`, `DH_ATTEMPT`, `DH_MASTER_ADDR`,
    /// `DH_MASTER_PORT`, `DH_GANG_TOKEN`; where the first, second, fourth or fifth is missing, the `RANK`,
    /// `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` of torch. Without any of them this is a single rank.
    ///
    /// # Errors
    /// [`Error::Environment`] names the variable.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_lookup(|name| env::var(name).ok())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let either = |name: &'static str, other: &'static str| {
            lookup(name).map(|value| (name, value)).or_else(|| lookup(other).map(|value| (other, value)))
        };
        let number = |found: Option<(&'static str, String)>, default: u32| match found {
            None => Ok(default),
            Some((name, text)) => text
                .parse::<u32>()
                .map_err(|_| Error::Environment { name, why: format!("`{text}` is not a whole number") }),
        };
        let rank = number(either("DH_RANK", "RANK"), 0)?;
        let ranks = number(either("DH_RANKS", "WORLD_SIZE"), 1)?;
        let attempt = number(lookup("DH_ATTEMPT").map(|value| ("DH_ATTEMPT", value)), 1)?;
        if rank >= ranks {
            return Err(Error::Environment { name: "DH_RANK", why: format!("rank {rank} of {ranks}") });
        }
        let mut world = Self { rank, ranks, attempt, ..Self::alone() };
        if ranks > 1 {
            let need = |found: Option<(&'static str, String)>, name| {
                found.map(|(_, value)| value).filter(|value| !value.is_empty()).ok_or_else(|| Error::Environment {
                    name,
                    why: format!("it is not set, and {ranks} ranks need it"),
                })
            };
            let address = need(either("DH_MASTER_ADDR", "MASTER_ADDR"), "DH_MASTER_ADDR")?;
            let port = need(either("DH_MASTER_PORT", "MASTER_PORT"), "DH_MASTER_PORT")?;
            let port: u16 = port
                .parse()
                .map_err(|_| Error::Environment { name: "DH_MASTER_PORT", why: format!("`{port}` is not a port") })?;
            let token = need(lookup("DH_GANG_TOKEN").map(|value| ("DH_GANG_TOKEN", value)), "DH_GANG_TOKEN")?;
            world.master = if address.contains(':') && !address.starts_with('[') {
                format!("[{address}]:{port}")
            } else {
                format!("{address}:{port}")
            };
            world.token = Secret::new(token);
        }
        Ok(world)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(pairs: &[(&str, &str)]) -> Result<World, Error> {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        World::from_lookup(find)
    }

    #[test]
    fn own_names_win_over_those_of_pytorch() {
        let pairs = [("RANK", "9"), ("DH_RANK", "1"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "::1")];
        let rest = [("DH_MASTER_PORT", "700"), ("DH_GANG_TOKEN", "t"), ("DH_ATTEMPT", "3")];
        let world = world(&[&pairs[..], &rest[..]].concat()).unwrap();
        assert_eq!((world.rank, world.ranks, world.attempt), (1, 4, 3));
        assert_eq!(world.master, "[::1]:700");
    }

    #[test]
    fn nothing_set_is_a_single_rank_and_gaps_are_named() {
        assert_eq!(world(&[]).unwrap().ranks, 1);
        for (pairs, name) in [
            (&[("DH_RANKS", "2")][..], "DH_MASTER_ADDR"),
            (&[("DH_RANKS", "x")], "DH_RANKS"),
            (&[("DH_RANK", "2"), ("DH_RANKS", "2")], "DH_RANK"),
            (&[("DH_RANKS", "2"), ("DH_MASTER_ADDR", "h"), ("DH_MASTER_PORT", "1")], "DH_GANG_TOKEN"),
            (&[("DH_RANKS", "2"), ("DH_MASTER_ADDR", "h"), ("DH_MASTER_PORT", "99999")], "DH_MASTER_PORT"),
        ] {
            let error = world(pairs).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
