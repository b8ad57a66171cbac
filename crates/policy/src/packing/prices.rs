//! What accelerators of a model cost a request: how much the mix wants the model, over the mean of all.
//!
//! A request of the mix is shared out over what is free of the models that it accepts. Requests that accept the same models
//! are added up once, so that a price costs a step for each set of models and not for each request.

use super::table::MODELS;
use super::{Mix, Node, Request};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Prices {
    /// Thousandths that the mix needs, by the models that will do.
    wanted: Vec<(u32, u64)>,
    total: u64,
    /// Thousandths free by model, of nodes in service.
    free: [u64; MODELS],
}

impl Prices {
    /// What the mix wants; what is free stays.
    pub(super) fn expect(&mut self, mix: &Mix) {
        self.wanted.clear();
        for (request, count) in mix.requests().iter().filter(|(request, _)| request.accelerators > 0) {
            let demand = request.demand().saturating_mul(*count);
            match self.wanted.iter_mut().find(|(models, _)| *models == request.models) {
                Some((_, sum)) => *sum = sum.saturating_add(demand),
                None => self.wanted.push((request.models, demand)),
            }
        }
        self.total = self.wanted.iter().fold(0, |sum, (_, demand)| sum.saturating_add(*demand));
    }

    /// What is free of a model becomes more or less by this.
    pub(super) fn change(&mut self, node: &Node, free: i64) {
        if let Some(sum) = self.free.get_mut(usize::from(node.model)) {
            *sum = sum.saturating_add_signed(free);
        }
    }

    /// Thousandths of accelerators free.
    pub(super) fn free(&self) -> u64 {
        self.free.iter().sum()
    }

    /// What `request` costs on each model, when a thousandth of the mean costs `weight`.
    pub(super) fn of(&self, request: &Request, weight: i64) -> [i64; MODELS] {
        let mut prices = [0; MODELS];
        // When all will take any, all models cost the same, and that is no reason to choose.
        let same = self.wanted.iter().all(|(models, _)| *models == 0);
        if same || weight == 0 || request.accelerators == 0 || self.total == 0 {
            return prices;
        }
        let all = u128::from(self.free());
        let mut sums = [0_u128; MODELS];
        for (models, demand) in &self.wanted {
            let accepts = |model: usize| *models == 0 || models & (1 << model) != 0;
            let open: u64 =
                self.free.iter().enumerate().filter(|(model, _)| accepts(*model)).map(|(_, free)| free).sum();
            if open == 0 {
                continue;
            }
            // Millionths of the mean.
            let share = u128::from(*demand) * all * 1_000_000 / u128::from(open) / u128::from(self.total);
            sums.iter_mut().enumerate().filter(|(model, _)| accepts(*model)).for_each(|(_, sum)| *sum += share);
        }
        let demand = i128::from(request.demand());
        for (price, sum) in prices.iter_mut().zip(sums) {
            let sum = i128::try_from(sum).unwrap_or(i128::MAX / 1_000_000_000_000_000_000);
            *price = i64::try_from(sum * demand * i128::from(weight) / 1_000_000).unwrap_or(i64::MAX / 4);
        }
        prices
    }
}
