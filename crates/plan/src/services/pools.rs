//! What services and trainings together want of each pool.
//!
//! Invariant: a pool is listed where a service runs on it; trainings take their accelerators from the pool with the most, as
//! the plan of trainings has it.

use serde::Serialize;

use super::{Hall, ServicePlan, largest};
use crate::book::Book;

/// Accelerators of a pool, and what is wanted of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolDemand {
    /// The pool.
    pub pool: String,
    /// Accelerators there are.
    pub accelerators: u64,
    /// Wanted by services.
    pub services: u64,
    /// Wanted by trainings, all at once.
    pub trainings: u64,
}

impl PoolDemand {
    /// Wanted by all at once.
    pub const fn wanted(&self) -> u64 {
        self.services.saturating_add(self.trainings)
    }
}

/// Pools that services run on, entered as `demand.POOL.services` and `demand.POOL.accelerators`.
pub(super) fn demands(book: &mut Book<'_>, hall: Hall<'_>, plans: &[ServicePlan]) -> Vec<PoolDemand> {
    let trained = largest(hall.pools).map(|pool| pool.name.as_str());
    let mut found = Vec::new();
    for pool in hall.pools {
        let here = plans.iter().filter(|plan| plan.pool.as_ref() == Some(&pool.name));
        let served: Vec<(u64, String)> = here
            .filter_map(|plan| Some((plan.best.as_ref()?.accelerators, format!("service.{}.accelerators", plan.name))))
            .collect();
        if served.is_empty() {
            continue;
        }
        let services = served.iter().map(|(accelerators, _)| *accelerators).sum();
        let mut ids: Vec<String> = served.into_iter().map(|(_, id)| id).collect();
        let id = format!("demand.{}.services", pool.name);
        let title = format!("accelerators of pool {} that services want", pool.name);
        book.sum(&id, &title, services, "sum over its services", &ids);
        let runs = hall.trainings.iter().filter(|_| trained == Some(pool.name.as_str()));
        let trainings = runs.clone().map(|run| run.accelerators).sum();
        ids = vec![id];
        ids.extend(runs.map(|run| format!("training.{}.accelerators", run.name)));
        let demand = PoolDemand { pool: pool.name.clone(), accelerators: pool.accelerators, services, trainings };
        let title = format!("accelerators of pool {} that services and trainings want at once", pool.name);
        let id = format!("demand.{}.accelerators", pool.name);
        book.sum(&id, &title, demand.wanted(), format!("{services} of services + {trainings} of trainings"), &ids);
        found.push(demand);
    }
    found
}
