//! The energy counters of this machine's accelerators, read when an attempt takes its devices and when it has given them back.
//!
//! What an attempt used is kept in a file of the data directory, `energy/job-N.json`; it decides nothing, so it is no event.
//! Invariant: what is kept was measured from the first to the last moment of an attempt; one that was cut off by an end of the
//! server has no entry, and is estimated. Cost: one call of the driver per device at each end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use dh_core::{AttemptId, JobId};
use dh_exec::devices::{Device, Devices};

/// Reads and keeps.
#[derive(Debug)]
pub(crate) struct Meter {
    folder: PathBuf,
    /// The drivers, where there are devices.
    devices: Option<Devices>,
    running: Mutex<BTreeMap<AttemptId, Vec<(Device, f64)>>>,
}

impl Meter {
    pub(crate) fn new(data: &Path, devices: Option<Devices>) -> Self {
        Self { folder: data.join("energy"), devices, running: Mutex::new(BTreeMap::new()) }
    }

    /// An attempt takes `devices`, all of each of them.
    pub(crate) fn begin(&self, attempt: AttemptId, devices: Vec<Device>) {
        let Some(readings) = self.read_all(devices).filter(|readings| !readings.is_empty()) else { return };
        self.lock().insert(attempt, readings);
    }

    /// What an attempt used so far, joules of all its devices; nothing where a device does not tell.
    pub(crate) fn so_far(&self, attempt: AttemptId) -> Option<f64> {
        let before = self.lock().get(&attempt)?.clone();
        let now = self.read_all(before.iter().map(|(device, _)| device.clone()).collect())?;
        // A counter that went back was reset with its driver.
        before.iter().zip(now).map(|((_, before), (_, now))| (now >= *before).then_some(now - before)).sum()
    }

    /// An attempt has given its devices back.
    pub(crate) fn end(&self, attempt: AttemptId) {
        let used = self.so_far(attempt);
        if self.lock().remove(&attempt).is_none() {
            return;
        }
        let Some(used) = used else { return };
        let mut kept = self.kept(attempt.job);
        kept.insert(attempt.attempt, used);
        let written = std::fs::create_dir_all(&self.folder)
            .and_then(|()| std::fs::write(self.file(attempt.job), serde_json::to_vec(&kept).unwrap_or_default()));
        if let Err(error) = written {
            tracing::warn!(%attempt, %error, "what it used of energy is not kept");
        }
    }

    /// What ended attempts of a job used, joules by attempt.
    pub(crate) fn kept(&self, job: JobId) -> BTreeMap<u32, f64> {
        std::fs::read(self.file(job)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn file(&self, job: JobId) -> PathBuf {
        self.folder.join(format!("job-{}.json", job.0))
    }

    /// All of them, or nothing if one does not tell.
    fn read_all(&self, devices: Vec<Device>) -> Option<Vec<(Device, f64)>> {
        let drivers = self.devices.as_ref()?;
        devices
            .into_iter()
            .map(|device| {
                let energy = drivers.read(&device).energy?;
                Some((device, energy.0))
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AttemptId, Vec<(Device, f64)>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_nothing_is_measured_and_nothing_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let meter = Meter::new(folder.path(), None);
        let attempt = AttemptId { job: JobId(7), attempt: 1 };
        meter.begin(attempt, Vec::new());
        assert_eq!(meter.so_far(attempt), None);
        meter.end(attempt);
        assert!(meter.kept(JobId(7)).is_empty() && !folder.path().join("energy").exists());
        // What a file holds is read back.
        std::fs::create_dir(folder.path().join("energy")).unwrap();
        std::fs::write(folder.path().join("energy/job-7.json"), r#"{"1":250.5}"#).unwrap();
        assert_eq!(meter.kept(JobId(7)), BTreeMap::from([(1, 250.5)]));
    }
}
