//! Whole runs against a store in memory.

use std::net::TcpListener;
use std::thread;

use dh_core::Secret;

use super::*;
use crate::dataset::{synthetic, upload};
use crate::store::{self, MemoryStore, ObjectEntry};

fn config(epochs: u64, every: u64) -> TrainConfig {
    TrainConfig {
        epochs,
        checkpoint_every_steps: every,
        layers: vec![784, 32, 10],
        seed: 3,
        ..TrainConfig::new("b", "data", "run")
    }
}

fn filled(train: usize) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    upload(&store, "b", "data", &synthetic::generate("s", train, 500, 5), 300, &mut |_| ()).unwrap();
    Arc::new(store)
}

/// Runs all ranks as threads; the result of each, with what it reported.
fn run_gang(
    config: &TrainConfig,
    ranks: u32,
    store: &Arc<dyn ObjectStore>,
) -> Vec<(Result<Report, Error>, Vec<Event>)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    let threads: Vec<_> = (0..ranks)
        .map(|rank| {
            let (listener, config, store) = (listener.take(), config.clone(), store.clone());
            thread::spawn(move || {
                let world = World {
                    rank,
                    ranks,
                    master: address.to_string(),
                    token: Secret::new("t".to_owned()),
                    ..World::alone()
                };
                let mut events = Vec::new();
                let result = run_in(&config, &world, store, &mut |event| events.push(event.clone()), || {
                    match (&listener, ranks) {
                        (_, 1) => Ok(Collective::alone()),
                        (Some(listener), _) => Collective::gather(&world, listener),
                        (None, _) => Collective::join(&world),
                    }
                });
                (result, events)
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn final_state(store: &MemoryStore) -> Checkpoint {
    let place = Place { bucket: "b".to_owned(), prefix: "run".to_owned() };
    Checkpoint::decode(&place.load(store).unwrap().bytes.unwrap()).unwrap()
}

/// A store that fails every write of a checkpoint past some step, as if the job were killed there.
struct Dying {
    inner: Arc<MemoryStore>,
    last_key: String,
}

impl ObjectStore for Dying {
    fn put(&self, bucket: &str, key: &str, body: &[u8]) -> Result<(), store::Error> {
        if key.contains("step-") && *key > *self.last_key {
            return Err(store::Error::Refused { action: format!("put {key}"), status: 507, code: None });
        }
        self.inner.put(bucket, key, body)
    }
    fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>, store::Error> {
        self.inner.get(bucket, key)
    }
    fn list(&self, bucket: &str, prefix: &str) -> Result<Vec<ObjectEntry>, store::Error> {
        self.inner.list(bucket, prefix)
    }
    fn delete(&self, bucket: &str, key: &str) -> Result<(), store::Error> {
        self.inner.delete(bucket, key)
    }
    fn create_bucket(&self, bucket: &str) -> Result<(), store::Error> {
        self.inner.create_bucket(bucket)
    }
}

#[test]
fn the_synthetic_set_is_learnt_and_the_model_is_written() {
    let memory = filled(6000);
    let store: Arc<dyn ObjectStore> = memory.clone();
    let results = run_gang(&config(3, 0), 2, &store);
    let report = results[0].0.as_ref().unwrap();
    assert_eq!(report.epochs.len(), 3);
    assert!(report.epochs[2].accuracy > 0.9, "{:?}", report.epochs);
    assert!(report.epochs[2].loss < report.epochs[0].loss);
    assert_eq!((report.steps, report.samples, report.origin.as_str()), (279, 279 * 64, "generated"));
    let other = results[1].0.as_ref().unwrap();
    for (left, right) in report.epochs.iter().zip(&other.epochs) {
        assert_eq!((left.accuracy.to_bits(), left.loss.to_bits()), (right.accuracy.to_bits(), right.loss.to_bits()));
    }
    assert!(memory.get("b", "run/model.safetensors").is_ok());
    let finished = results[0].1.iter().filter(|event| matches!(event, Event::Finished(_))).count();
    assert_eq!(finished, 1);
    assert!(results[0].1.iter().any(|event| matches!(event, Event::Step { step: 50, epoch: 1, .. })));
}

#[test]
fn a_resumed_run_ends_with_the_same_bits_as_an_uninterrupted_one() {
    for ranks in [1, 2] {
        let whole = filled(1000);
        let store: Arc<dyn ObjectStore> = whole.clone();
        run_gang(&config(3, 7), ranks, &store)[0].0.as_ref().unwrap();
        let expected = final_state(&whole);
        assert_eq!(expected.state.step, 45);
        // Cut after step 14 of 45: in the first epoch; after 28: in the second.
        for last in ["run/step-00000014", "run/step-00000028"] {
            let cut = filled(1000);
            let dying: Arc<dyn ObjectStore> =
                Arc::new(Dying { inner: cut.clone(), last_key: format!("{last}.safetensors") });
            let broken = run_gang(&config(3, 7), ranks, &dying);
            assert!(broken[0].0.is_err(), "{ranks} {last}");
            let store: Arc<dyn ObjectStore> = cut.clone();
            let results = run_gang(&config(3, 7), ranks, &store);
            let report = results[0].0.as_ref().unwrap();
            let Event::Started { resumed_from_step, .. } = results[0].1[0] else { panic!("{:?}", results[0].1) };
            assert_eq!(resumed_from_step, last[last.len() - 2..].parse::<u64>().unwrap());
            assert_eq!(report.steps, 45 - resumed_from_step);
            let got = final_state(&cut);
            assert!(
                got.parameters == expected.parameters && got.moments == expected.moments,
                "{ranks} ranks from {last}"
            );
            let accuracies = |state: &State| state.epochs.iter().map(|e| (e.accuracy, e.loss)).collect::<Vec<_>>();
            assert_eq!(accuracies(&got.state), accuracies(&expected.state));
            let model = |store: &MemoryStore| store.get("b", "run/model.safetensors").unwrap();
            assert!(model(&cut) == model(&whole), "{ranks} ranks from {last}");
        }
    }
}

#[test]
fn a_torn_newest_checkpoint_costs_only_its_steps() {
    let whole = filled(1000);
    let store: Arc<dyn ObjectStore> = whole.clone();
    run_gang(&config(2, 10), 1, &store)[0].0.as_ref().unwrap();
    let expected = final_state(&whole);
    let key = Place { bucket: "b".to_owned(), prefix: "run".to_owned() }.step_key(30);
    let bytes = whole.get("b", &key).unwrap();
    whole.put("b", &key, &bytes[..bytes.len() / 2]).unwrap();
    let results = run_gang(&config(2, 10), 1, &store);
    let Event::Started { resumed_from_step: 20, skipped_checkpoints, .. } = &results[0].1[0] else {
        panic!("{:?}", results[0].1)
    };
    assert_eq!(skipped_checkpoints.len(), 1);
    assert!(final_state(&whole).parameters == expected.parameters);
}

#[test]
fn a_finished_run_that_is_started_again_writes_its_model_again() {
    let memory = filled(500);
    let store: Arc<dyn ObjectStore> = memory.clone();
    run_gang(&config(1, 0), 1, &store)[0].0.as_ref().unwrap();
    let model = memory.get("b", "run/model.safetensors").unwrap();
    memory.delete("b", "run/model.safetensors").unwrap();
    let again = run_gang(&config(1, 0), 1, &store);
    assert_eq!(again[0].0.as_ref().unwrap().steps, 0);
    assert!(memory.get("b", "run/model.safetensors").unwrap() == model);
}

#[test]
fn a_checkpoint_of_another_run_is_refused_on_every_rank() {
    let memory = filled(500);
    let store: Arc<dyn ObjectStore> = memory.clone();
    run_gang(&config(1, 0), 2, &store)[0].0.as_ref().unwrap();
    let other = TrainConfig { seed: 4, ..config(1, 0) };
    for (result, _) in run_gang(&other, 2, &store) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
        assert!(error.to_string().contains("seed was 3 and is 4"));
    }
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let store: Arc<dyn ObjectStore> = filled(100);
    let error = |config: TrainConfig| run_gang(&config, 1, &store).remove(0).0.unwrap_err().to_string();
    assert!(error(TrainConfig { epochs: 0, ..config(1, 0) }).contains("epochs"));
    assert!(error(TrainConfig { learning_rate: f64::NAN, ..config(1, 0) }).contains("learning_rate"));
    assert!(error(TrainConfig { layers: vec![783, 10], ..config(1, 0) }).contains("784 pixels"));
    assert!(error(TrainConfig { layers: vec![784, 11], ..config(1, 0) }).contains("10 classes"));
    assert!(error(TrainConfig { global_batch: 128, ..config(1, 0) }).contains("only 100"));
    assert!(error(TrainConfig { dataset_prefix: "none".to_owned(), ..config(1, 0) }).contains("none/manifest.json"));
    assert!(config(1, 0).check(3).unwrap_err().to_string().contains("multiple of the 3 ranks"));
}
