//! The whole store on a simulated disk: a life of 1,000 changes is recorded, and every disk that a power cut could leave
//! at every operation of it is opened and compared with what clients were told.
//!
//! `DH_IMAGES=1000000` looks at so many images, on all cores: of each life at every operation at least nine. The gate looks
//! at 5,000, which takes a minute of two cores without optimisation. `DH_LIFE=17` begins with that life;
//! `DH_FAULT_AT=693` fails that operation only.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests fail by panicking"
)]

mod ground;
mod life;
mod look;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dh_store::disk::{CrashPoints, Fault, SimDisk, Survival};

use ground::{DISK_BYTES, Elsewhere, Layout, open, runtime};
use life::{Event, Ledger, live, live_carefully};
use look::check;

const CHANGES: usize = 1_000;
/// Parts of the images of a life; each is looked at by one core. A prime, so that each part has all ways to die.
const SHARES: usize = 61;
/// Images of one life, of a run that looks at more than two lives.
const OF_A_LIFE: usize = 40_000;

/// Does what `each` says for the numbers below `count`, on all cores. What is done follows from the number alone.
fn on_all_cores(count: u64, each: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            each(number);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_core| scope.spawn(work)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// A life that was lived, with all that its disk did.
struct Life {
    seed: u64,
    layout: Layout,
    disk: SimDisk,
    far: Arc<Elsewhere>,
    ledger: Ledger,
}

impl Life {
    fn lived(seed: u64, layout: Layout) -> Self {
        let disk = SimDisk::new(DISK_BYTES);
        disk.record();
        let far = Elsewhere::beside(&disk);
        let mut ledger = Ledger::default();
        runtime().block_on(async {
            let store = open(&disk, layout, &far).await.unwrap();
            live(&store, &disk, seed, CHANGES, &mut ledger).await;
            if layout == Layout::Tiers {
                let moved = store.stats().moved;
                assert!(moved.bodies > 30 && moved.failed == 0, "{moved:?}");
            }
            store.close().await;
        });
        let events: Vec<&Event> = ledger.events.values().flatten().collect();
        assert!(
            events.len() >= CHANGES && events.iter().all(|event| event.told < u64::MAX),
            "a life on a good disk succeeds"
        );
        Self { seed, layout, disk, far, ledger }
    }

    /// Looks at every `shares`th of `images` images from number `share` on; says at how many.
    fn look(&self, images: usize, share: usize, shares: usize) -> usize {
        let Self { seed, layout, far, ledger, .. } = self;
        let mut points = CrashPoints::of(&self.disk);
        let steps = points.left();
        let runtime = runtime();
        let (mut number, mut step, mut seen) = (0, 0, 0);
        while let Some(operation) = points.advance() {
            step += 1;
            // The images are spread evenly over the operations, and the ways to die over the images.
            while number < images * step / steps {
                if number % shares == share {
                    let kinds = Survival::all(seed << 48 ^ number as u64);
                    let kind = kinds[number % kinds.len()];
                    let context = format!("seed {seed}, operation {operation}, {kind:?}");
                    let image = points.image(kind);
                    let far = far.after(operation + 1, &image);
                    runtime.block_on(check(&image, (*layout, &far), ledger, operation + 1, &context));
                    seen += 1;
                }
                number += 1;
            }
        }
        seen
    }
}

/// Looks at `images` images of the life `seed`, spread over its operations, on all cores; says how many.
fn explore(seed: u64, layout: Layout, images: usize) -> u64 {
    let life = Life::lived(seed, layout);
    let seen = AtomicU64::new(0);
    on_all_cores(SHARES as u64, |share| {
        let share = usize::try_from(share).unwrap();
        seen.fetch_add(life.look(images, share, SHARES) as u64, Ordering::Relaxed);
    });
    let seen = seen.into_inner();
    assert_eq!(seen, images as u64, "all of the images of life {seed}");
    seen
}

fn images() -> usize {
    std::env::var("DH_IMAGES").ok().and_then(|text| text.replace('_', "").parse().ok()).unwrap_or(5_000)
}

#[test]
fn every_crash_of_a_life_keeps_what_was_acknowledged() {
    let lives = images().div_ceil(OF_A_LIFE).max(2);
    let each = images().div_ceil(lives);
    let first = std::env::var("DH_LIFE").ok().map_or(1, |text| text.parse().unwrap());
    let mut seen = 0;
    for seed in (first..).take(lives) {
        seen += explore(seed, Layout::of(seed), each);
        println!("{seen} images so far, the last of life {seed}");
    }
    println!("{seen} images of {lives} lives");
}

#[test]
fn every_crash_of_a_life_with_moves_keeps_what_was_acknowledged() {
    let seen = explore(5, Layout::Tiers, (images() / 4).min(OF_A_LIFE));
    println!("{seen} images of a life with moves");
}

fn fail_everywhere(layout: Layout) {
    let long = images() > 5_000;
    let changes = if long { 200 } else { 40 };
    let disk = SimDisk::new(DISK_BYTES);
    let far = Elsewhere::beside(&disk);
    runtime().block_on(async {
        let store = open(&disk, layout, &far).await.unwrap();
        live(&store, &disk, 3, changes, &mut Ledger::default()).await;
    });
    let last = disk.operations();
    let step = if long { 1 } else { 7 };
    let points = last.div_ceil(step);
    if let Ok(text) = std::env::var("DH_FAULT_AT") {
        let at = text.parse().unwrap();
        return [Fault::Eio, Fault::Full].into_iter().for_each(|fault| fail_at(layout, fault, at, changes));
    }
    on_all_cores(2 * points, |number| {
        let (fault, at) = if number < points { (Fault::Eio, number) } else { (Fault::Full, number - points) };
        fail_at(layout, fault, at * step, changes);
    });
    println!("{layout:?}: an error and a full disk at each of {points} of {last} operations of {changes} changes");
}

/// A life on a disk whose operation number `at` fails, and the disk that a power cut at its end leaves.
fn fail_at(layout: Layout, fault: Fault, at: u64, changes: usize) {
    let context = format!("{layout:?}, {fault:?} at operation {at}");
    let disk = SimDisk::new(DISK_BYTES);
    disk.plan(at, fault);
    let far = Elsewhere::beside(&disk);
    let mut ledger = Ledger::default();
    runtime().block_on(async {
        let Ok(store) = open(&disk, layout, &far).await else {
            disk.heal();
            ledger.ready = u64::MAX;
            return check(&disk.after_power_cut(), (layout, &far), &ledger, 0, &context).await;
        };
        live_carefully(&store, &disk, changes, &mut ledger).await;
        store.close().await;
        drop(store);
        disk.heal();
        let done = disk.operations();
        check(&disk.after_power_cut(), (layout, &far), &ledger, done, &context).await;
    });
}

#[test]
fn a_failing_operation_anywhere_in_a_life_loses_nothing() {
    fail_everywhere(Layout::Directory);
}

#[test]
fn a_failing_operation_of_any_tier_in_a_life_loses_nothing() {
    fail_everywhere(Layout::Tiers);
}

#[test]
fn a_failing_operation_of_any_drive_in_a_life_loses_nothing() {
    fail_everywhere(Layout::Drives);
}
