//! Flights and what is kept of them.

use std::pin::Pin;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;

use super::*;

fn head() -> Head {
    Head { status: StatusCode::OK, headers: HeaderMap::new(), hopeless: false }
}

async fn all(reading: Reading) -> Option<Vec<u8>> {
    reading.collect().await.ok().map(|collected| collected.to_bytes().to_vec())
}

fn exact(bytes_max: usize) -> Exact {
    Exact::new(CacheConfig { bytes_max, ttl: Duration::from_mins(1), shared: false })
}

fn keep(exact: &Exact, key: u8, bytes: usize) {
    let Found::Lead(flight, reading) = exact.find([key; 32], false) else { panic!("there is one already") };
    flight.begin(head());
    flight.push(Bytes::from(vec![key; bytes]));
    drop(reading);
    let stored = flight.end(true).map(|(head, body)| Arc::new(Stored { head, body, since: Instant::now() }));
    exact.landed([key; 32], &flight, stored);
}

#[tokio::test]
async fn readers_get_every_piece_whenever_they_join() {
    let (flight, first) = Flight::start(100);
    let reading = tokio::spawn(all(first));
    tokio::task::yield_now().await;
    flight.begin(head());
    flight.push(Bytes::from("one "));
    let second = flight.join().unwrap();
    assert_eq!(second.head().await.unwrap().status, StatusCode::OK);
    let second = tokio::spawn(all(second));
    tokio::task::yield_now().await;
    flight.push(Bytes::from("two"));
    assert_eq!(flight.end(true).unwrap().1, "one two");
    assert!(flight.join().is_none());
    assert_eq!(reading.await.unwrap().unwrap(), b"one two");
    assert_eq!(second.await.unwrap().unwrap(), b"one two");
}

#[tokio::test]
async fn a_flight_that_breaks_off_breaks_for_all_and_ends_once() {
    let (flight, first) = Flight::start(100);
    flight.begin(head());
    flight.push(Bytes::from("one"));
    assert!(flight.end(false).is_none());
    assert!(flight.end(true).is_none());
    assert!(all(first).await.is_none());
    let (flight, first) = Flight::start(100);
    flight.end(false);
    assert!(first.head().await.is_none());
}

#[tokio::test]
async fn a_long_answer_is_not_kept_and_waits_for_who_is_slow() {
    let (flight, mut first) = Flight::start(100);
    let second = flight.join().unwrap();
    flight.begin(head());
    let producer = tokio::spawn({
        let flight = Arc::clone(&flight);
        async move {
            for _ in 0..50 {
                flight.push(Bytes::from(vec![b'x'; 40]));
                std::future::poll_fn(|cx| flight.poll_room(cx)).await;
            }
            flight.end(true)
        }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!producer.is_finished(), "it waits for its readers");
    assert!(flight.join().is_none(), "what is gone cannot be read");
    // One reads on, one leaves after a piece.
    let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut first), cx)).await;
    assert_eq!(frame.unwrap().unwrap().into_data().unwrap().len(), 40);
    let second = tokio::spawn(all(second));
    drop(first);
    assert_eq!(second.await.unwrap().unwrap().len(), 2_000);
    assert!(producer.await.unwrap().is_none());
}

#[tokio::test]
async fn memory_has_a_bound_and_what_is_asked_for_stays() {
    let exact = exact(40 * (ENTRY_BYTES + 1_000));
    keep(&exact, 0, 1_000);
    for key in 1..=200 {
        assert!(matches!(exact.find([0; 32], false), Found::Hit(_)), "{key}");
        keep(&exact, key, 1_000);
    }
    let state = exact.lock();
    assert!(state.sieve.size() <= 40 * (ENTRY_BYTES + 1_000));
    assert_eq!((state.entries.len(), state.keys.len(), state.flights.len()), (40, 40, 0));
}

#[tokio::test]
async fn an_old_answer_leaves_when_it_is_asked_for() {
    let exact = Exact::new(CacheConfig { bytes_max: 1 << 20, ttl: Duration::ZERO, shared: false });
    keep(&exact, 1, 10);
    assert_eq!(exact.lock().entries.len(), 1);
    assert!(matches!(exact.find([1; 32], false), Found::Lead(..)));
    let state = exact.lock();
    assert_eq!((state.sieve.size(), state.entries.len()), (0, 0));
}

#[tokio::test]
async fn who_asks_afresh_does_not_join_and_replaces_what_is_kept() {
    let exact = exact(1 << 20);
    keep(&exact, 1, 10);
    let Found::Lead(flight, reading) = exact.find([1; 32], true) else { panic!("it was not asked afresh") };
    flight.begin(head());
    flight.push(Bytes::from("new"));
    let stored = flight.end(true).map(|(head, body)| Arc::new(Stored { head, body, since: Instant::now() }));
    exact.landed([1; 32], &flight, stored);
    drop(reading);
    let Found::Hit(stored) = exact.find([1; 32], false) else { panic!("it was not kept") };
    assert_eq!(stored.body, "new");
    assert_eq!(exact.lock().entries.len(), 1);
}
