//! Jobs of a trace at the rates of a table of throughputs: how fast each runs on each class, and beside another.
//!
//! A job is of the type that its model and its accelerators name. One that the table does not know is of a type that is drawn
//! for its model, or for itself where the trace has none, among those of its size, as the table's own simulator draws them.
//! Its length is that on the class that is fastest for it; where it has no rate it cannot run. A cluster whose classes the
//! table does not know is dealt out to the table's accelerators, equal shares of the nodes to each.
//!
//! Invariant: the same trace and table give the same types. Rates of ranks that are spread over nodes are not used: there is
//! one rate for a class. Source: see [`super::throughputs`].

use std::collections::BTreeMap;

use super::{JobType, Name, Throughputs, Trace};

/// How jobs of one type get on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rated {
    /// On each class of the cluster, in millionths of the fastest; 0 where they cannot run.
    pub speeds: Vec<u32>,
    /// Beside a job of another type, by class, in millionths of the speed alone there; 0 where they cannot be together.
    pub beside: BTreeMap<u16, Vec<u32>>,
}

/// What accelerators of spread ranks are called in the table.
const SPREAD: &str = "_unconsolidated";

impl Trace {
    /// Gives every job its rates. What was assumed is noted.
    pub fn rate(&mut self, table: &Throughputs) {
        let mut classes = self.classes_of(table);
        if classes.iter().all(Option::is_none) {
            classes = self.deal(table);
        }
        let usable: Vec<u16> = (0..)
            .zip(&table.jobs)
            .filter(|(job, _)| speeds(table, &classes, *job).iter().any(|speed| *speed > 0))
            .map(|(job, _)| job)
            .collect();
        let sizes: BTreeMap<u32, Vec<u16>> = usable.iter().fold(BTreeMap::new(), |mut sizes, job| {
            if let Some(of) = table.jobs.get(usize::from(*job)) {
                sizes.entry(of.scale).or_insert_with(Vec::new).push(*job);
            }
            sizes
        });
        let mut drawn = 0_usize;
        let mut types: BTreeMap<u16, Rated> = BTreeMap::new();
        for at in 0..self.jobs.len() {
            let Some(job) = self.jobs.get(at).copied() else { continue };
            let scale = u32::try_from(job.gang.milli() / 1000).unwrap_or(u32::MAX);
            let named = job.model.and_then(|model| self.models.get(model)).and_then(|name| {
                table.find(&JobType { name: name.to_owned(), scale }).filter(|named| usable.contains(named))
            });
            let seed = job.model.map_or(job.id, |model| u64::from(model.index()));
            let of = named.or_else(|| {
                // Of a size that the table does not have, the next smaller one tells as much.
                let (_, same) = sizes.range(..=scale.max(1)).next_back().or(sizes.first_key_value())?;
                drawn += 1;
                let place = usize::try_from(mixed(seed) % u64::try_from(same.len()).ok()?.max(1)).ok()?;
                same.get(place).copied()
            });
            let Some(of) = of.filter(|_| job.gang.per_rank_milli > 0) else { continue };
            let rated = types
                .entry(of)
                .or_insert_with(|| Rated { speeds: speeds(table, &classes, of), beside: BTreeMap::new() });
            let fit = (0_u32..)
                .zip(&rated.speeds)
                .filter(|(_, speed)| **speed > 0)
                .fold(0_u32, |fit, (class, _)| fit | 1_u32.checked_shl(class).unwrap_or(0));
            let fits_all = rated.speeds.iter().all(|speed| *speed > 0);
            self.set_rated(at, of, if fits_all { 0 } else { fit });
        }
        let known: Vec<u16> = types.keys().copied().collect();
        for (own, rated) in &mut types {
            for other in &known {
                let beside: Vec<u32> = classes.iter().map(|class| beside(table, *class, *own, *other)).collect();
                if beside.iter().any(|speed| *speed > 0) {
                    rated.beside.insert(*other, beside);
                }
            }
        }
        if drawn > 0 {
            self.notes.push(format!(
                "{drawn} jobs run what the table of throughputs does not name: their types were drawn among those of their size"
            ));
        }
        self.notes.push("a job's length is that on the class that is fastest for it".to_owned());
        self.rated = types;
    }

    /// The table's accelerators of each class.
    fn classes_of(&self, table: &Throughputs) -> Vec<Option<Name>> {
        self.cluster.classes.iter().map(|class| table.accelerators.find(&class.to_lowercase())).collect()
    }

    /// Deals the nodes out to the table's accelerators.
    fn deal(&mut self, table: &Throughputs) -> Vec<Option<Name>> {
        let names: Vec<String> =
            table.accelerators.list().iter().filter(|name| !name.ends_with(SPREAD)).take(31).cloned().collect();
        let kinds = u32::try_from(names.len()).unwrap_or(1).max(1);
        let mut nodes = Vec::new();
        for group in &self.cluster.nodes {
            for class in 0..kinds {
                let count = group.count / kinds + u32::from(class < group.count % kinds);
                if count > 0 && group.accelerators > 0 {
                    let class = u8::try_from(class).ok();
                    nodes.push(super::NodeGroup { count, class, ..*group });
                }
            }
        }
        self.notes.push(format!("equal shares of the nodes have {}", names.join(", ")));
        self.cluster.nodes = nodes;
        self.cluster.classes = names;
        self.classes_of(table)
    }
}

/// How fast a type is on each class, in millionths of the fastest.
fn speeds(table: &Throughputs, classes: &[Option<Name>], job: u16) -> Vec<u32> {
    let rates: Vec<u64> =
        classes.iter().map(|class| class.and_then(|class| table.alone(class, job)).unwrap_or(0)).collect();
    let fastest = rates.iter().max().copied().unwrap_or(0);
    rates.iter().map(|rate| part(*rate, fastest)).collect()
}

/// How fast a type is beside another on a class, in millionths of its speed alone.
fn beside(table: &Throughputs, class: Option<Name>, own: u16, other: u16) -> u32 {
    let Some(class) = class else { return 0 };
    let pair = table.pair(class, own, other).map(|pair| (pair.own, pair.other));
    let turned = || table.pair(class, other, own).map(|pair| (pair.other, pair.own));
    let Some((rate, others)) = pair.or_else(turned) else { return 0 };
    let alone = table.alone(class, own).unwrap_or(0);
    if others == 0 { 0 } else { part(rate, alone) }
}

/// `part` of `whole` in millionths, at most all of it.
fn part(part: u64, whole: u64) -> u32 {
    let millionths = (u128::from(part) * 1_000_000).checked_div(u128::from(whole)).unwrap_or(0);
    u32::try_from(millionths.min(1_000_000)).unwrap_or(1_000_000)
}

/// A number in which neighbours are far apart (`SplitMix64`; Steele, Lea, Flood 2014).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use dh_core::time::{SimTime, Span};

    use super::super::{Cluster, Gang, TraceJob};
    use super::*;

    const TABLE: &str = "gpu,job,colocated_with,steps_per_s,steps_per_s_colocated\n\
        k80,\"('A', 1)\",,2,\n\
        v100,\"('A', 1)\",,8,\n\
        v100_unconsolidated,\"('A', 1)\",,7,\n\
        v100,\"('B', 1)\",,10,\n\
        v100,\"('C', 4)\",,3,\n\
        v100,\"('A', 1)\",\"('B', 1)\",6,5\n\
        k80,\"('A', 1)\",\"('B', 1)\",1,0\n";

    fn trace(models: &[(&str, u32)]) -> Trace {
        let mut trace = Trace::empty("t");
        trace.cluster = Cluster::equal("t", 5, 4);
        let queue = trace.one_queue().unwrap();
        for (id, (model, accelerators)) in (0..).zip(models) {
            let gang = Gang { ranks: 1, per_rank_milli: accelerators * 1000, ..Gang::default() };
            let mut job = TraceJob::new(id, SimTime(id), gang, queue).with_length(Some(Span(1_000)));
            job.model = Some(trace.models.of(model).unwrap());
            trace.push(job.into());
        }
        trace
    }

    #[test]
    fn jobs_have_the_rates_of_their_model_and_nodes_are_dealt_out() {
        let table = Throughputs::read(TABLE, "t").unwrap();
        let mut trace = trace(&[("A", 1), ("B", 1), ("what", 4)]);
        trace.rate(&table);
        assert_eq!(trace.cluster.classes, ["k80", "v100"]);
        let counts: Vec<(u32, Option<u8>)> =
            trace.cluster.nodes.iter().map(|group| (group.count, group.class)).collect();
        assert_eq!(counts, [(3, Some(0)), (2, Some(1))]);
        let types: Vec<Option<u16>> = trace.jobs.iter().map(|job| trace.extra(job)?.rated).collect();
        assert_eq!(types, [Some(0), Some(1), Some(2)], "of four accelerators there is one");
        assert_eq!(trace.rated[&0].speeds, [250_000, 1_000_000]);
        assert_eq!(trace.rated[&1].speeds, [0, 1_000_000]);
        let masks: Vec<u32> = trace.jobs.iter().map(|job| job.gang.classes).collect();
        assert_eq!(masks, [0, 2, 2], "where it has no rate it cannot run");
        assert_eq!(trace.rated[&0].beside[&1], [0, 750_000], "one that stands still is no pair");
        assert_eq!(trace.rated[&1].beside[&0], [0, 500_000]);
    }

    #[test]
    fn a_cluster_whose_classes_are_known_stays_as_it_is() {
        let table = Throughputs::read(TABLE, "t").unwrap();
        let mut trace = trace(&[("A", 1), ("A", 3)]);
        trace.cluster.class("V100").unwrap();
        trace.rate(&table);
        assert_eq!(trace.cluster.nodes.len(), 1);
        assert_eq!(trace.rated[&0].speeds, [1_000_000]);
        assert!(trace.jobs.iter().all(|job| trace.extra(job).is_some_and(|extra| extra.rated.is_some())));
    }
}
