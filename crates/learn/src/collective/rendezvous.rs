//! How the ranks of one attempt find and trust each other.
//!
//! Rank 0 listens at the gang's address. Every other rank connects to it, tells where it listens itself, and gets the
//! table of all addresses once everyone is there; then it connects to the ranks below its own and accepts those above.
//! Both ends of every connection prove that they know the gang token without sending it: each signs both nonces and
//! its own claim (HMAC-SHA256, compared in constant time). Another attempt, another world or a rank that is taken are
//! refused by name. What follows on the connection is not encrypted: it belongs on a private network, as gradients do.
//!
//! hello: magic u32 | rank u32 | ranks u32 | attempt u32 | port u32 | nonce 16; challenge: magic u32 | rank u32 | nonce 16 |
//! proof 32; answer: proof 32; verdict: u32. Little-endian.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use rustix::event::{PollFd, PollFlags};
use sha2::{Digest, Sha256};

use super::wire::{self, Link};
use super::{Collective, Error};
use crate::train::World;

const MAGIC: u32 = u32::from_le_bytes(*b"DHH1");
const NONCE_BYTES: usize = 16;
const HELLO_BYTES: usize = 20 + NONCE_BYTES;
const CHALLENGE_BYTES: usize = 8 + NONCE_BYTES + PROOF_BYTES;
const PROOF_BYTES: usize = 32;
const ADDRESS_BYTES: usize = 18;

/// A stranger that connects and stays silent holds the door for this long.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A full mesh needs one connection per pair; beyond this a tree would be due.
const RANKS_MAX: u32 = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Verdict {
    Welcome = 0,
    WrongToken = 1,
    OtherWorld = 2,
    OtherAttempt = 3,
    Taken = 4,
}

impl Verdict {
    const fn from_wire(word: u32) -> Option<Self> {
        match word {
            0 => Some(Self::Welcome),
            1 => Some(Self::WrongToken),
            2 => Some(Self::OtherWorld),
            3 => Some(Self::OtherAttempt),
            4 => Some(Self::Taken),
            _ => None,
        }
    }

    const fn reason(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::WrongToken => "the gang token is wrong",
            Self::OtherWorld => "it belongs to a gang of another size",
            Self::OtherAttempt => "it belongs to another attempt",
            Self::Taken => "this rank is present already",
        }
    }
}

/// What a connector claims.
#[derive(Debug, Clone, Copy)]
struct Hello {
    rank: u32,
    ranks: u32,
    attempt: u32,
    port: u32,
    nonce: [u8; NONCE_BYTES],
}

impl Collective {
    /// Gathers with all other ranks of `world`.
    ///
    /// # Errors
    /// Why the gang did not come together; after [`World::gather_timeout`] at the latest.
    pub fn join(world: &World) -> Result<Self, Error> {
        check(world)?;
        if world.ranks == 1 {
            return Ok(Self::alone());
        }
        let addresses: Vec<SocketAddr> = world
            .master
            .to_socket_addrs()
            .map_err(|source| Error::Address { action: "resolve", address: world.master.clone(), source })?
            .collect();
        if world.rank == 0 {
            let listener = TcpListener::bind(addresses.as_slice()).map_err(|source| Error::Address {
                action: "listen on",
                address: world.master.clone(),
                source,
            })?;
            return Self::gather(world, &listener);
        }
        join_others(world, &addresses)
    }

    /// Gathers as rank 0 on a listener that is bound already.
    ///
    /// # Errors
    /// As [`Collective::join`].
    pub fn gather(world: &World, listener: &TcpListener) -> Result<Self, Error> {
        check(world)?;
        let deadline = Instant::now() + world.gather_timeout;
        let guests = accept_all(world, listener, 1..world.ranks, deadline)?;
        let mut table = Vec::with_capacity(guests.len() * ADDRESS_BYTES);
        for (hello, stream) in &guests {
            let ip = match stream.peer_addr()?.ip() {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            table.extend_from_slice(&ip.octets());
            table.extend_from_slice(&u16::try_from(hello.port).unwrap_or(0).to_le_bytes());
        }
        for (hello, stream) in &guests {
            let mut stream = stream;
            let lost =
                |error: std::io::Error| Error::PeerLost { peer: hello.rank, sequence: 0, why: error.to_string() };
            stream.write_all(&table).map_err(lost)?;
        }
        Ok(Self::new(0, world.ranks, links(guests)?, world.peer_timeout))
    }
}

fn check(world: &World) -> Result<(), Error> {
    let wrong = |why: &str| Error::World { rank: world.rank, ranks: world.ranks, why: why.to_owned() };
    if world.ranks == 0 || world.rank >= world.ranks {
        return Err(wrong("a rank is below the number of ranks"));
    }
    if world.ranks > RANKS_MAX {
        return Err(wrong("built-in training connects every rank to every other and stops at 256"));
    }
    if world.ranks > 1 && world.token.expose().is_empty() {
        return Err(wrong("several ranks need a gang token"));
    }
    Ok(())
}

fn links(guests: Vec<(Hello, TcpStream)>) -> Result<Vec<Link>, Error> {
    guests.into_iter().map(|(hello, stream)| Link::new(hello.rank, stream)).collect()
}

/// The way of every rank but 0.
fn join_others(world: &World, master: &[SocketAddr]) -> Result<Collective, Error> {
    let deadline = Instant::now() + world.gather_timeout;
    let (mut to_master, listener) = connect(world, 0, master, deadline, None)?;
    let listener = listener.map_or_else(|| listen_beside(&to_master), Ok)?;
    let mut table = vec![0; (world.ranks as usize - 1) * ADDRESS_BYTES];
    to_master.read_exact(&mut table).map_err(|error| {
        let why = format!("the others ({error})");
        not_gathered(world, why)
    })?;
    let mut found = vec![Link::new(0, to_master)?];
    for (peer, entry) in (1..world.rank).zip(table.as_chunks::<ADDRESS_BYTES>().0) {
        let [octets @ .., low, high] = *entry;
        let address = SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), u16::from_le_bytes([low, high]));
        let (stream, _) = connect(world, peer, &[address], deadline, Some(&listener))?;
        found.push(Link::new(peer, stream)?);
    }
    found.extend(links(accept_all(world, &listener, world.rank + 1..world.ranks, deadline)?)?);
    Ok(Collective::new(world.rank, world.ranks, found, world.peer_timeout))
}

/// A listener on the address by which this machine reaches rank 0, so that it is one that peers can reach.
fn listen_beside(stream: &TcpStream) -> Result<TcpListener, Error> {
    Ok(TcpListener::bind((stream.local_addr()?.ip(), 0))?)
}

fn not_gathered(world: &World, missing: String) -> Error {
    Error::NotGathered { rank: world.rank, seconds: world.gather_timeout.as_secs(), missing }
}

/// Connects to rank `peer` and is welcomed; tries again while nobody answers. Without a `listener` of this rank, one is
/// made beside the connection and returned.
fn connect(
    world: &World,
    peer: u32,
    addresses: &[SocketAddr],
    deadline: Instant,
    listener: Option<&TcpListener>,
) -> Result<(TcpStream, Option<TcpListener>), Error> {
    let mut last = "it does not answer".to_owned();
    loop {
        for address in addresses {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(not_gathered(world, format!("rank {peer} at {address}: {last}")));
            }
            let tried = TcpStream::connect_timeout(address, left.min(STRANGER_TIMEOUT)).and_then(|stream| {
                let own =
                    if listener.is_none() { Some(TcpListener::bind((stream.local_addr()?.ip(), 0))?) } else { None };
                let port = own.as_ref().or(listener).map_or(Ok(0), |own| own.local_addr().map(|at| at.port()))?;
                let verdict = introduce(world, &stream, u32::from(port), left)?;
                Ok((stream, own, verdict))
            });
            match tried {
                Ok((stream, own, Some((Verdict::Welcome, answered)))) if answered == peer => return Ok((stream, own)),
                Ok((_, _, Some((Verdict::OtherAttempt, _)))) => {
                    // A rank 0 of the attempt before may still be on its way out; ours will come.
                    Verdict::OtherAttempt.reason().clone_into(&mut last);
                }
                Ok((_, _, Some((Verdict::Welcome, _)) | None)) => {
                    return Err(Error::Impostor { rank: world.rank, peer });
                }
                Ok((_, _, Some((verdict, _)))) => {
                    return Err(Error::Refused { rank: world.rank, peer, why: verdict.reason() });
                }
                Err(error) => last = error.to_string(),
            }
        }
        thread::sleep(RETRY_PAUSE);
    }
}

/// The connector's half of the handshake: the verdict and who gave it, or `None` if that one does not know the token.
fn introduce(
    world: &World,
    mut stream: &TcpStream,
    port: u32,
    patience: Duration,
) -> std::io::Result<Option<(Verdict, u32)>> {
    stream.set_read_timeout(Some(patience.max(RETRY_PAUSE)))?;
    stream.set_write_timeout(Some(STRANGER_TIMEOUT))?;
    stream.set_nodelay(true)?;
    let hello = Hello { rank: world.rank, ranks: world.ranks, attempt: world.attempt, port, nonce: nonce()? };
    let hello_bytes = encode_hello(&hello);
    stream.write_all(&hello_bytes)?;
    let mut challenge = [0; CHALLENGE_BYTES];
    stream.read_exact(&mut challenge)?;
    let (claim, proof) = challenge.split_at(CHALLENGE_BYTES - PROOF_BYTES);
    if signature(world, b"listener", &hello_bytes, claim).verify_slice(proof).is_err() {
        return Ok(None);
    }
    let answer: [u8; PROOF_BYTES] = signature(world, b"connector", &hello_bytes, claim).finalize().into_bytes().into();
    stream.write_all(&answer)?;
    let mut verdict = [0; 4];
    stream.read_exact(&mut verdict)?;
    let rank = word(claim, 1);
    let verdict = Verdict::from_wire(u32::from_le_bytes(verdict));
    verdict
        .map(|verdict| Some((verdict, rank)))
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidData, "it speaks another protocol"))
}

/// Accepts until every rank of `expected` is there; strangers are sent away and do not count. In the order of ranks.
fn accept_all(
    world: &World,
    listener: &TcpListener,
    expected: std::ops::Range<u32>,
    deadline: Instant,
) -> Result<Vec<(Hello, TcpStream)>, Error> {
    listener.set_nonblocking(true)?;
    let mut guests: Vec<(Hello, TcpStream)> = Vec::new();
    let mut turned_away = String::new();
    while guests.len() < expected.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let missing: Vec<String> = expected
                .filter(|rank| !guests.iter().any(|(hello, _)| hello.rank == *rank))
                .map(|rank| rank.to_string())
                .collect();
            return Err(not_gathered(world, format!("rank {} did not come{turned_away}", missing.join(", "))));
        }
        wire::wait(&mut [PollFd::new(listener, PollFlags::IN)], left)?;
        let Ok((stream, from)) = listener.accept() else { continue };
        match receive(world, &stream, &expected, &guests) {
            Ok(Ok(hello)) => guests.push((hello, stream)),
            Ok(Err(verdict)) => turned_away = format!("; {} was turned away: {}", from.ip(), verdict.reason()),
            Err(error) => turned_away = format!("; {} broke off: {error}", from.ip()),
        }
    }
    guests.sort_by_key(|(hello, _)| hello.rank);
    Ok(guests)
}

/// The listener's half of the handshake.
fn receive(
    world: &World,
    mut stream: &TcpStream,
    expected: &std::ops::Range<u32>,
    present: &[(Hello, TcpStream)],
) -> std::io::Result<Result<Hello, Verdict>> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(STRANGER_TIMEOUT))?;
    stream.set_write_timeout(Some(STRANGER_TIMEOUT))?;
    let mut hello_bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut hello_bytes)?;
    if word(&hello_bytes, 0) != MAGIC {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it speaks another protocol"));
    }
    let mut claim = Vec::with_capacity(CHALLENGE_BYTES);
    claim.extend_from_slice(&MAGIC.to_le_bytes());
    claim.extend_from_slice(&world.rank.to_le_bytes());
    claim.extend_from_slice(&nonce()?);
    let proof = signature(world, b"listener", &hello_bytes, &claim).finalize().into_bytes();
    stream.write_all(&[claim.as_slice(), proof.as_slice()].concat())?;
    let mut answer = [0; PROOF_BYTES];
    stream.read_exact(&mut answer)?;
    let hello = decode_hello(&hello_bytes);
    let verdict = if signature(world, b"connector", &hello_bytes, &claim).verify_slice(&answer).is_err() {
        Verdict::WrongToken
    } else if hello.attempt != world.attempt {
        Verdict::OtherAttempt
    } else if hello.ranks != world.ranks || !expected.contains(&hello.rank) {
        Verdict::OtherWorld
    } else if present.iter().any(|(guest, _)| guest.rank == hello.rank) {
        Verdict::Taken
    } else {
        Verdict::Welcome
    };
    stream.write_all(&(verdict as u32).to_le_bytes())?;
    Ok(if verdict == Verdict::Welcome { Ok(hello) } else { Err(verdict) })
}

/// HMAC over who signs and both sides' words.
fn signature(world: &World, side: &[u8], hello: &[u8], claim: &[u8]) -> Hmac<Sha256> {
    // The key has the length of a block; the token's digest fills half of it, whatever the token's length.
    let mut key = hmac::digest::common::Key::<Hmac<Sha256>>::default();
    key.iter_mut().zip(Sha256::digest(world.token.expose().as_bytes())).for_each(|(place, byte)| *place = byte);
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&key);
    mac.update(side);
    mac.update(hello);
    mac.update(claim);
    mac
}

fn nonce() -> std::io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(nonce)
}

fn encode_hello(hello: &Hello) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    let (fields, nonce) = bytes.split_at_mut(HELLO_BYTES - NONCE_BYTES);
    let values = [MAGIC, hello.rank, hello.ranks, hello.attempt, hello.port];
    for (field, value) in fields.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *field = value.to_le_bytes();
    }
    nonce.copy_from_slice(&hello.nonce);
    bytes
}

fn decode_hello(bytes: &[u8; HELLO_BYTES]) -> Hello {
    let [.., nonce] = bytes.split_at(HELLO_BYTES - NONCE_BYTES).1.as_chunks::<NONCE_BYTES>().0 else {
        return Hello { rank: u32::MAX, ranks: 0, attempt: 0, port: 0, nonce: [0; NONCE_BYTES] };
    };
    Hello { rank: word(bytes, 1), ranks: word(bytes, 2), attempt: word(bytes, 3), port: word(bytes, 4), nonce: *nonce }
}

/// The `place`-th little-endian word; zero beyond the end.
fn word(bytes: &[u8], place: usize) -> u32 {
    bytes.as_chunks::<4>().0.get(place).map_or(0, |raw| u32::from_le_bytes(*raw))
}
