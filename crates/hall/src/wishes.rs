//! Wishes for nodes by name: jobs that say on which nodes alone they may run, or on which not.
//!
//! The scheduler tells nodes apart by class, and looks at the classes that a job accepts wherever it counts, places, reserves and
//! displaces. So a wish becomes classes of its own: where open jobs wish for some nodes of a class and not for the others, the
//! scheduler is told of two. It is made anew when a job comes whose wish the present classes do not tell apart, as at the start of a
//! server. Invariant: a job with a wish never stands on a node that it does not wish for; one without knows of no class.
//! Cost: a look at every node for each job with a wish that is handed to the scheduler.

use std::collections::BTreeSet;

use dh_core::NodeId;
use dh_policy::fleet::{CLASSES_MAX, Fleet, NodeFacts, View};
use dh_policy::placement::{self, Context, Misfit, Need};

use crate::machine::{Hall, Rejection};
use crate::node::{Health, Node};
use crate::spec::JobSpec;

/// The class that no node has: who may run nowhere accepts this one.
const NOBODY: u32 = 1 << (CLASSES_MAX - 1);

/// Nodes that are named in an answer; of a large hall nobody reads them all.
const NODES_NAMED: usize = 8;

/// The node may be used, in the order of the nodes.
type Wish = Vec<bool>;

impl Hall {
    /// Where a job may run, if it says so.
    fn wish(&self, spec: &JobSpec) -> Option<Wish> {
        if spec.nodes.is_empty() && spec.avoid_nodes.is_empty() {
            return None;
        }
        let only: BTreeSet<&str> = spec.nodes.iter().map(String::as_str).collect();
        let avoid: BTreeSet<&str> = spec.avoid_nodes.iter().map(String::as_str).collect();
        let may = |node: &Node| {
            let name = node.spec.name.as_str();
            (only.is_empty() || only.contains(name)) && !avoid.contains(name)
        };
        Some(self.nodes.values().map(may).collect())
    }

    /// What is wrong with a wish, whatever else the job asks for.
    pub(crate) fn wish_refused(&self, spec: &JobSpec) -> Option<Rejection> {
        let wish = self.wish(spec)?;
        let known: BTreeSet<&str> = self.nodes.values().map(|node| node.spec.name.as_str()).collect();
        let mut named = spec.nodes.iter().chain(&spec.avoid_nodes);
        if let Some(name) = named.find(|name| !known.contains(name.as_str())) {
            return Some(Rejection::NoNode { node: name.chars().take(200).collect() });
        }
        if !wish.contains(&true) {
            let why = "every node that the job may run on is one that it avoids".to_owned();
            return Some(Rejection::Invalid(why));
        }
        let classes = self.classes(Some(spec));
        (!tells_apart(&classes, &wish)).then(|| {
            let most = CLASSES_MAX - 1;
            let why =
                format!("the nodes that open jobs name make more than {most} groups, and this job's would be one more");
            Rejection::Full(why)
        })
    }

    /// Why a job with a wish can never run, if it cannot.
    pub(crate) fn wish_never(&self, spec: &JobSpec) -> Option<Misfit> {
        let wish = self.wish(spec)?;
        let classes = self.classes(Some(spec));
        let facts: Vec<NodeFacts> = self
            .nodes
            .values()
            .zip(&classes)
            .map(|(node, class)| NodeFacts { class: *class, ..node.spec.told() })
            .collect();
        let fleet = Fleet::new(&self.policy.levels, &facts).ok()?;
        let mut need: Need = self.least(spec);
        need.rank.models = accepted(&classes, &wish);
        placement::misfit(&fleet, &need, &Context::plain(View::All)).filter(Misfit::for_ever)
    }

    /// The classes that a job accepts, a bit each, as the present scheduler knows them; 0 is any.
    pub(crate) fn models(&self, spec: &JobSpec) -> u32 {
        let (Some(wish), Some(fleet)) = (self.wish(spec), self.fleet()) else { return 0 };
        accepted(&classes_of(fleet), &wish)
    }

    /// Whether the present scheduler, if there is one, can keep a job where it wishes to be.
    pub(crate) fn knows_wish(&self, spec: &JobSpec) -> bool {
        let (Some(wish), Some(fleet)) = (self.wish(spec), self.fleet()) else { return true };
        tells_apart(&classes_of(fleet), &wish)
    }

    /// The class of each node, so that the wishes of open jobs, and then that of `more`, are told apart as far as there are classes.
    pub(crate) fn classes(&self, more: Option<&JobSpec>) -> Vec<u8> {
        let mut classes: Vec<u8> = self.nodes.values().map(|node| node.spec.told().class).collect();
        let mut seen = BTreeSet::new();
        let open = self.jobs.values().filter(|job| job.open()).map(|job| &job.spec);
        for spec in open.chain(more) {
            if !seen.insert((&spec.nodes, &spec.avoid_nodes)) {
                continue;
            }
            if let Some(wish) = self.wish(spec)
                && let Some(finer) = told_apart(&classes, &wish)
            {
                classes = finer;
            }
        }
        classes
    }

    /// The nodes that a job may run on and what is the matter with each, if it says so.
    pub(crate) fn wish_text(&self, spec: &JobSpec) -> Option<String> {
        let wish = self.wish(spec)?;
        let may: Vec<&Node> = self.nodes.values().zip(wish).filter_map(|(node, may)| may.then_some(node)).collect();
        let text = |node: &&Node| {
            let name = &node.spec.name;
            match (&node.down, node.health) {
                (Some(why), _) => format!("{name} is down: {why}"),
                (None, Health::Drained) => format!("{name} is drained"),
                (None, Health::Up) => format!("{name} has {} of {} slots free", node.free(), node.spec.slots),
            }
        };
        let mut texts: Vec<String> = may.iter().take(NODES_NAMED).map(text).collect();
        if let Some(more) = may.len().checked_sub(NODES_NAMED).filter(|more| *more > 0) {
            texts.push(format!("and {more} more"));
        }
        Some(if texts.is_empty() { "none of them is in this hall any more".to_owned() } else { texts.join(", ") })
    }

    /// Nodes on which a job may run.
    pub(crate) fn may_use(&self, spec: &JobSpec) -> impl Iterator<Item = &Node> {
        let wish = self.wish(spec);
        self.nodes
            .values()
            .enumerate()
            .filter_map(move |(at, node)| wish.as_ref().is_none_or(|wish| wish.get(at) == Some(&true)).then_some(node))
    }
}

/// The class of each node of a fleet.
fn classes_of(fleet: &Fleet) -> Vec<u8> {
    (0..u32::try_from(fleet.len()).unwrap_or(u32::MAX)).map(|node| fleet.class(NodeId(node))).collect()
}

/// Classes of which some node is wished for, and those of which some is not, a bit each.
fn split(classes: &[u8], wish: &[bool]) -> (u32, u32) {
    classes.iter().zip(wish).fold((0, 0), |(inside, outside), (class, may)| {
        let bit = 1_u32 << class.min(&31);
        if *may { (inside | bit, outside) } else { (inside, outside | bit) }
    })
}

fn tells_apart(classes: &[u8], wish: &[bool]) -> bool {
    let (inside, outside) = split(classes, wish);
    inside & outside == 0 && inside & NOBODY == 0
}

/// The classes that are wished for as a whole.
fn accepted(classes: &[u8], wish: &[bool]) -> u32 {
    let (inside, outside) = split(classes, wish);
    match inside & !outside & !NOBODY {
        0 => NOBODY,
        some => some,
    }
}

/// Finer classes that tell the nodes of a wish apart from the others; none if there are not enough.
fn told_apart(classes: &[u8], wish: &[bool]) -> Option<Vec<u8>> {
    let (inside, outside) = split(classes, wish);
    let both = inside & outside;
    let first = classes.iter().max().map_or(0, |most| u32::from(*most) + 1);
    let mut instead: [Option<u8>; CLASSES_MAX] = [None; CLASSES_MAX];
    let divided = (0_u32..).zip(&mut instead).filter(|(class, _)| both >> class & 1 == 1);
    for (new, (_, instead)) in (first..).zip(divided) {
        if 1_u32.checked_shl(new).is_none_or(|bit| bit >= NOBODY) {
            return None;
        }
        *instead = u8::try_from(new).ok();
    }
    let finer = |(class, may): (&u8, &bool)| {
        let new = instead.get(usize::from(*class)).copied().flatten().filter(|_| *may);
        new.unwrap_or(*class)
    };
    Some(classes.iter().zip(wish).map(finer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_split_where_wishes_divide_them_and_never_into_the_last() {
        let classes = [0, 0, 1, 1];
        let wish = [true, false, true, true];
        assert!(!tells_apart(&classes, &wish));
        let finer = told_apart(&classes, &wish).unwrap();
        assert_eq!((finer.as_slice(), accepted(&finer, &wish)), (&[2, 0, 1, 1][..], 0b110));
        assert!(tells_apart(&finer, &wish));
        assert_eq!(told_apart(&finer, &wish).unwrap(), finer);
        // Twenty nodes of one class each alone: then there is no class left.
        let mut classes = vec![0_u8; 40];
        let mut split = 0;
        for node in 0..40 {
            let wish: Vec<bool> = (0..40).map(|other| other == node).collect();
            match told_apart(&classes, &wish) {
                Some(finer) => classes = finer,
                None => break,
            }
            split += 1;
        }
        assert_eq!((split, classes.iter().max()), (30, Some(&30)));
        assert_eq!(accepted(&classes, &[false; 40]), NOBODY);
    }
}
