//! Data sets of the blueprint's trainings, and what reads and keeps them: drives of nodes, ports to storage, the store.
//!
//! Invariant: numbers are those of the catalogue and the plan; what neither says is a stated assumption beside its constant.

use dh_blueprint::{Pretrain, Settings};
use dh_hall::scheduler::DatasetId;
use dh_plan::Plan;
use dh_units::{real, whole};

use super::{Own, Site};
use crate::kernel::Caches;
use dh_hall::layout::Layout;

/// A drive of which only the number is known. Stated assumption: those of eight-GPU nodes of the catalogue are of this size.
const DRIVE: u64 = 3_840_000_000_000;

/// Bytes of a token of a data set whose size is not said: vocabularies of more than 65,536 words need four (stated assumption).
const TOKEN: f64 = 4.0;

/// What nodes keep and take in, without any data set.
pub(super) fn caches(settings: &Settings, plan: &Plan, drafted: &Layout, notes: &mut Vec<String>) -> Caches {
    let mut caches = Caches::default();
    let mut unknown = Vec::new();
    for pool in &drafted.pools {
        let named = plan.pools.get(*pool).map_or("", |pool| pool.name.as_str());
        let item = settings.pools.get(named).and_then(|pool| pool.item(&settings.catalog));
        let drives = item.as_ref().and_then(|item| item.drives.as_ref()).map_or(0, |drives| u64::from(drives.value));
        let drive = item.as_ref().and_then(|item| settings.catalog.drive(&item.drive.as_ref()?.value));
        let each = drive.map_or(DRIVE, |drive| drive.capacity.value.0);
        let ports = item.as_ref().and_then(|item| {
            let (ports, speed) = (item.storage_ports.as_ref()?.value, item.storage_speed.as_ref()?.value);
            Some(f64::from(ports) * speed.0 / 8.0)
        });
        let writes = drive.map(|drive| drive.write.value.0 * real(drives));
        let take = [ports, writes].into_iter().flatten().reduce(f64::min);
        caches.keep.push(drives.saturating_mul(each));
        caches.take.push(take.map_or(0, |take| whole(take.max(1.0))));
        if drives == 0 && !unknown.contains(&named) {
            unknown.push(named);
        }
    }
    caches.store = plan.stores.iter().map(|store| whole(store.read.0)).max().unwrap_or(0);
    if !unknown.is_empty() && settings.policy.scheduling.placement == "data-local" {
        let names: Vec<String> = unknown.iter().map(|name| format!("`{name}`")).collect();
        notes
            .push(format!("nodes of pool {} have no drives that are known: no data is warm on them", names.join(", ")));
    }
    caches
}

impl Own {
    /// The data set of a training, by its number; one that two trainings name is one.
    pub(super) fn dataset(&mut self, pretrain: &Pretrain) -> Option<DatasetId> {
        let name = pretrain.dataset.as_ref()?;
        let said = pretrain.dataset_size.map(|size| size.0);
        let size = said.unwrap_or_else(|| whole(pretrain.tokens.as_f64() * TOKEN));
        let known = self.datasets.iter().position(|(known, _)| known == name);
        let at = known.unwrap_or(self.datasets.len());
        match self.datasets.get_mut(at) {
            Some((_, largest)) => *largest = (*largest).max(size),
            None => self.datasets.push((name.clone(), size)),
        }
        DatasetId::try_from(at).ok()
    }

    /// What reads and keeps its data sets, if it has any.
    pub fn caches(&self, site: &Site) -> Option<Caches> {
        let sizes: Vec<u64> = self.datasets.iter().map(|(_, size)| *size).collect();
        (!sizes.is_empty()).then(|| Caches { sizes, ..site.caches.clone() })
    }
}
