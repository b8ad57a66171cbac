//! Ranks as threads over loopback: exactness, and every way in which a peer can fail.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use dh_core::Secret;

use super::*;
use crate::random::Generator;
use crate::train::World;

fn world(rank: u32, ranks: u32, address: SocketAddr) -> World {
    World {
        rank,
        ranks,
        attempt: 1,
        master: address.to_string(),
        token: Secret::new("gang".to_owned()),
        gather_timeout: Duration::from_secs(10),
        peer_timeout: Duration::from_secs(2),
    }
}

/// Runs `work` on every rank of a gang and returns the results in the order of the ranks.
fn gang<T: Send + 'static>(
    ranks: u32,
    change: impl Fn(&mut World) + Copy + Send + 'static,
    work: impl Fn(Result<Collective, Error>) -> T + Copy + Send + 'static,
) -> Vec<T> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    let threads: Vec<_> = (0..ranks)
        .map(|rank| {
            let listener = listener.take();
            thread::spawn(move || {
                let mut world = world(rank, ranks, address);
                change(&mut world);
                work(match listener {
                    Some(listener) => Collective::gather(&world, &listener),
                    None => Collective::join(&world),
                })
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn vector(rank: u32, length: usize) -> Vec<f32> {
    let mut generator = Generator::new(9, &[u64::from(rank)]);
    (0..length).map(|_| generator.signed_unit() * 10.0).collect()
}

#[test]
fn the_average_is_the_fixed_order_sum_bit_for_bit() {
    for ranks in [1, 2, 3, 4] {
        for length in [0, 1, 3, 1001, 203_531] {
            let results = gang(
                ranks,
                |_| (),
                move |collective| {
                    let mut collective = collective.unwrap();
                    let mut values = vector(collective.rank(), length);
                    for _ in 0..2 {
                        values = vector(collective.rank(), length);
                        collective.average(&mut values).unwrap();
                    }
                    values
                },
            );
            let mut expected = vector(0, length);
            for rank in 1..ranks {
                expected.iter_mut().zip(vector(rank, length)).for_each(|(sum, value)| *sum += value);
            }
            if ranks > 1 {
                let scale = 1.0 / number::single(f64::from(ranks));
                for sum in &mut expected {
                    *sum *= scale;
                }
            }
            for (rank, result) in results.iter().enumerate() {
                let same = result.iter().zip(&expected).all(|(got, want)| got.to_bits() == want.to_bits());
                assert!(same && result.len() == length, "rank {rank} of {ranks}, {length} numbers");
            }
        }
    }
}

#[test]
fn counts_add_up_and_a_broadcast_reaches_everyone() {
    let results = gang(
        3,
        |_| (),
        |collective| {
            let mut collective = collective.unwrap();
            let mut counts = [u64::from(collective.rank()) + 1, 1 << 40];
            collective.sum_counts(&mut counts).unwrap();
            let mine = if collective.rank() == 0 { vec![7; 300_000] } else { vec![1] };
            let bytes = collective.broadcast(mine).unwrap();
            let empty = collective.broadcast(Vec::new()).unwrap();
            (counts, bytes == vec![7; 300_000], empty.len())
        },
    );
    assert_eq!(results, vec![([6, 3 << 40], true, 0); 3]);
}

#[test]
fn a_dead_peer_ends_the_others_at_once() {
    let results = gang(
        3,
        |world| world.peer_timeout = Duration::from_secs(30),
        |collective| {
            let mut collective = collective.unwrap();
            let mut values = vec![1.0; 100_000];
            collective.average(&mut values).unwrap();
            if collective.rank() == 2 {
                return None;
            }
            let start = Instant::now();
            let error = collective.average(&mut values).unwrap_err();
            Some((start.elapsed(), error.kind(), error.to_string()))
        },
    );
    for (elapsed, kind, text) in results.into_iter().flatten() {
        assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
        assert_eq!(kind, Kind::Unreachable, "{text}");
    }
}

#[test]
fn a_silent_peer_ends_the_others_after_the_limit() {
    let results = gang(
        2,
        |world| world.peer_timeout = Duration::from_millis(300),
        |collective| {
            let mut collective = collective.unwrap();
            if collective.rank() == 1 {
                // Alive and connected, and not taking part.
                thread::sleep(Duration::from_millis(1500));
                return None;
            }
            let start = Instant::now();
            let error = collective.average(&mut [1.0; 8]).unwrap_err();
            Some((start.elapsed(), error.kind()))
        },
    );
    let (elapsed, kind) = results[0].unwrap();
    assert!(elapsed < Duration::from_millis(1200), "{elapsed:?}");
    assert_eq!(kind, Kind::Timeout);
}

#[test]
fn ranks_that_do_different_things_are_told_so() {
    let results = gang(
        2,
        |_| (),
        |collective| {
            let mut collective = collective.unwrap();
            if collective.rank() == 0 {
                collective.average(&mut [0.0; 10]).unwrap_err()
            } else {
                collective.average(&mut [0.0; 30]).unwrap_err()
            }
        },
    );
    assert!(results.iter().any(|error| matches!(error, Error::OutOfStep { .. })), "{results:?}");
}

#[test]
fn a_wrong_token_is_refused_on_both_sides() {
    let start = Instant::now();
    let results = gang(
        2,
        |world| {
            world.gather_timeout = Duration::from_millis(800);
            if world.rank == 1 {
                world.token = Secret::new("gong".to_owned());
            }
        },
        |collective| collective.err().map(|error| (error.kind(), error.to_string())),
    );
    assert!(start.elapsed() < Duration::from_secs(4));
    assert_eq!(results[1].as_ref().unwrap().0, Kind::Unauthorized);
    let (kind, text) = results[0].as_ref().unwrap();
    assert_eq!(*kind, Kind::Timeout);
    assert!(text.contains("rank 1 did not come"), "{text}");
    assert!(!text.contains("gong") && !text.contains("\"gang\""));
}

#[test]
fn other_attempts_and_other_worlds_are_refused() {
    let results = gang(
        2,
        |world| {
            world.gather_timeout = Duration::from_millis(600);
            world.attempt += world.rank;
        },
        |collective| collective.err().map(|error| error.to_string()),
    );
    assert!(results[1].as_ref().unwrap().contains("another attempt"), "{results:?}");
    let results = gang(
        2,
        |world| {
            world.gather_timeout = Duration::from_millis(600);
            world.ranks += world.rank;
        },
        |collective| collective.err().map(|error| error.to_string()),
    );
    assert!(results[1].as_ref().unwrap().contains("another size"), "{results:?}");
}

#[test]
fn strangers_do_not_keep_the_gang_from_gathering() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut stranger = TcpStream::connect(address).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\nhost: example\r\n\r\n and more than a hello").unwrap();
    let other = thread::spawn(move || Collective::join(&world(1, 2, address)).map(|gang| gang.ranks()));
    let first = Collective::gather(&world(0, 2, address), &listener);
    assert!(first.is_ok(), "{first:?}");
    assert_eq!(other.join().unwrap().unwrap(), 2);
}

#[test]
fn an_absent_master_ends_in_bounded_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut lonely = world(1, 2, address);
    lonely.gather_timeout = Duration::from_millis(400);
    let start = Instant::now();
    assert_eq!(Collective::join(&lonely).unwrap_err().kind(), Kind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(3));
}
