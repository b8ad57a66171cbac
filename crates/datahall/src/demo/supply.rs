//! Data for the training, from Debian's package or made up, and its way into the store.

use dh_learn::ObjectStore;
use dh_learn::dataset::{Dataset, Origin, idx, manifest, synthetic};
use dh_server::launch::DATASETS;
use dh_server::wire::Status;
use dh_units::Bytes;

use super::Wishes;
use crate::api::Api;
use crate::failure::Failure;
use crate::ui::progress::Progress;
use crate::{fetch, output, store_client};

/// The prefix of the set; the workload of the blueprint names it.
const NAME: &str = "fashion-mnist";

/// Samples of one shard: about 2 MB, so that prefetching two of them is little memory and few requests.
const SHARD_SAMPLES: usize = 2_500;

/// The size of the made-up set, as that of the real one.
const TRAIN_SAMPLES: usize = 60_000;
const TEST_SAMPLES: usize = 10_000;

/// What the demo trains on.
pub(super) struct Supply {
    pub(super) dataset: Dataset,
    /// Bytes as clients see them.
    pub(super) logical_bytes: u64,
    /// Bytes on the disk.
    pub(super) stored_bytes: u64,
    /// Whether models may be downloaded.
    pub(super) offline: bool,
}

/// Gets the data and puts it into the store.
pub(super) fn bring(api: &Api, wishes: Wishes, quiet: bool) -> Result<Supply, Failure> {
    let dataset = get(wishes.offline);
    let store = store_client::open(&api.endpoint, api.admin_key())?;
    store.create_bucket(DATASETS)?;
    let mut bar = Progress::new("put", 100, quiet);
    manifest::upload(&store, DATASETS, NAME, &dataset, SHARD_SAMPLES, &mut |progress| {
        let percent = progress.shards_done.saturating_mul(100) / progress.shards.max(1);
        bar.at(u64::try_from(percent).unwrap_or(100), &Bytes(progress.bytes_done).to_string());
    })?;
    bar.end();
    let status: Status = api.get("/v1/status")?;
    Ok(Supply {
        dataset,
        logical_bytes: status.store.logical_bytes,
        stored_bytes: status.store.stored_bytes,
        offline: wishes.offline,
    })
}

fn get(offline: bool) -> Dataset {
    if !offline {
        let real = fetch::fashion_mnist().and_then(|folder| Ok(idx::load(&folder, NAME, Origin::FashionMnist)?));
        match real {
            Ok(dataset) => return dataset,
            Err(failure) => output::note(format!(
                "{} Fashion-MNIST cannot be had ({}); going on with generated data, marked as such",
                output::yellow("note:"),
                failure.message
            )),
        }
    }
    synthetic::generate(NAME, TRAIN_SAMPLES, TEST_SAMPLES, 7)
}

impl Supply {
    /// Whether the data is made up.
    pub(super) fn generated(&self) -> bool {
        self.dataset.origin == Origin::Generated
    }

    pub(super) fn sentence(&self) -> String {
        let saved = 100_u64.saturating_sub(self.stored_bytes.saturating_mul(100) / self.logical_bytes.max(1));
        format!(
            "  {} images of {} for training, {} to test: {} in the store take {} on the disk, compression saved {saved} %",
            self.dataset.train.len(),
            self.dataset.origin.word(),
            self.dataset.test.len(),
            Bytes(self.logical_bytes),
            Bytes(self.stored_bytes),
        )
    }
}
