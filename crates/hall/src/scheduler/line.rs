//! Waiting jobs: groups of jobs that ask for the same in the same queue, each sorted by key, and classes of groups that need
//! the same room.
//!
//! When a head does not fit, its whole class is closed, and opens when a node that could matter gives something back. So a
//! million jobs of a thousand kinds cost what some tens of classes cost.
//!
//! A head that must not use what is kept for others waits for open room. Behind it in its group there may be a job that is
//! over before what is kept is needed: the first such is the group's short job, and stands in the group's class as a head does.
//!
//! Invariant: a group with jobs is in one class or parked, and its head is its job of least key; a class is in its line's
//! live ones if it is open and has a group, among the closed ones if it is not open.

mod behind;
mod lacks;

use std::collections::{BTreeMap, BTreeSet};

use dh_core::{JobId, SimTime};
use dh_policy::fleet::View;
use dh_policy::order::Key;
use dh_policy::pages::Pages;
use serde::{Deserialize, Serialize};

use super::event::QueueId;
use super::job::{Jobs, Phase, Slot};
use super::members::{Members, Tracks};
pub(super) use lacks::{ClassKey, Lacks, RoomKind};

/// The number of a group.
pub(super) type GroupId = u32;

/// The number of a class.
pub(super) type ClassId = u32;

/// A head: key, job, group.
pub(super) type Head = (Key, JobId, GroupId);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Class {
    key: ClassKey,
    /// Heads, by line.
    heads: BTreeSet<(u16, Head)>,
    open: bool,
    /// Of a class that waits for open room: every group in it was looked through for jobs that are over by this moment.
    looked: SimTime,
    /// Of a class that waits for open room: its groups by [`Group::sought`], those that have one.
    #[serde(skip)]
    sought: BTreeSet<(u64, GroupId)>,
}

impl Class {
    fn first_of(&self, line: u16) -> Option<Head> {
        self.of_line(line).next().map(|(_, head)| *head)
    }

    /// The heads of a line, in order.
    fn of_line(&self, line: u16) -> impl Iterator<Item = &(u16, Head)> {
        let first = (line, (Key { class: i64::MIN, value: 0 }, JobId(0), 0));
        self.heads.range(first..).take_while(move |(of, _)| *of == line)
    }
}

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stand {
    Class(ClassId),
    Parked(Lacks),
}

impl Default for Stand {
    fn default() -> Self {
        Self::Class(0)
    }
}

/// Jobs that ask for the same.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Group {
    pub(super) queue: QueueId,
    pub(super) shape: u32,
    /// The class in which it stands unless something else is in its way.
    home: ClassKey,
    home_class: ClassId,
    stand: Stand,
    members: Members,
    /// Its head, if it has jobs.
    head: Option<(Key, JobId)>,
    /// A job behind the head that may go before it.
    short: Option<(Key, JobId)>,
    /// While it waits for open room: who has less time than this, nanoseconds, need not look through it.
    #[serde(skip)]
    sought: Option<u64>,
}

impl Group {
    /// The number of its line.
    pub(super) fn line(&self) -> usize {
        usize::from(self.home.line)
    }

    /// Its head, named with the group's own number.
    pub(super) fn head(&self, group: GroupId) -> Option<Head> {
        self.head.map(|(key, job)| (key, job, group))
    }
}

/// All groups.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Lines {
    groups: Pages<Group, 16>,
    /// By shape: its groups by queue, sorted.
    index: Vec<Vec<(QueueId, GroupId)>>,
    classes: Vec<Class>,
    #[serde(with = "super::pairs")]
    class_index: BTreeMap<ClassKey, ClassId>,
    /// Open classes with heads.
    live: BTreeSet<ClassId>,
    /// How many lines there are.
    count: u16,
    /// Of each line: its heads that are in a class.
    standing: Vec<u32>,
    /// Closed classes, by what opens them.
    #[serde(with = "super::pairs")]
    closed: BTreeMap<RoomKind, BTreeSet<(u32, ClassId)>>,
    #[serde(with = "super::pairs")]
    parked: BTreeMap<Lacks, BTreeSet<Head>>,
    waiting: usize,
    /// Lines in which something changed, if there are several.
    turned: Vec<u16>,
    /// Whether somebody asks for short jobs.
    tracks: Tracks,
    /// Groups whose short job lacks something other than accelerators.
    resting: BTreeSet<GroupId>,
}

impl Lines {
    pub(super) fn new(lines: usize, tracks: Tracks) -> Self {
        let lines = lines.max(1);
        Self { count: u16::try_from(lines).unwrap_or(u16::MAX), standing: vec![0; lines], tracks, ..Self::default() }
    }

    /// Jobs that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn lines(&self) -> usize {
        usize::from(self.count)
    }

    /// A line in which something changed since it was last named.
    pub(super) fn turned(&mut self) -> Option<u16> {
        self.turned.pop()
    }

    /// Whether a line has heads that wait for nothing but room.
    pub(super) fn stands(&self, line: u16) -> bool {
        self.standing.get(usize::from(line)).is_some_and(|standing| *standing > 0)
    }

    /// Something may have changed in every line.
    pub(super) fn turn_all(&mut self) {
        self.turned.clear();
        self.turned.extend(0..self.count);
    }

    fn turn(&mut self, line: u16) {
        if self.count > 1 && self.turned.last() != Some(&line) {
            self.turned.push(line);
        }
    }

    /// The head of a group, with its line, if it may fit.
    pub(super) fn live_head(&self, group: GroupId) -> Option<(usize, Head)> {
        let of = self.group(group)?;
        let (key, job) = of.head?;
        match of.stand {
            Stand::Class(class) => self.class(class)?.open.then_some((usize::from(of.home.line), (key, job, group))),
            Stand::Parked(_) => None,
        }
    }

    /// A waiting job goes ahead to `key`. Cost: a look through the group's slots for it.
    pub(super) fn rise(&mut self, jobs: &mut Jobs, group: GroupId, slot: Slot, key: Key) {
        if let Some(job) = jobs.get_mut(slot) {
            job.key = key;
        }
        self.set_short(group, None);
        let tracks = self.tracks;
        let Some(rising) = self.group_mut(group) else { return };
        rising.members.fell(tracks, jobs, slot);
        if rising.members.top() == Some(slot) {
            self.show(jobs, group);
        }
        self.seek(group);
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(usize::try_from(id).ok()?)
    }

    fn group_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(usize::try_from(id).ok()?)
    }

    fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(usize::try_from(id).ok()?)
    }

    /// The first head of a line that may fit.
    pub(super) fn next(&self, line: usize) -> Option<Head> {
        let line = u16::try_from(line).ok()?;
        let live = self.live.iter().filter_map(|class| self.class(*class));
        if self.count > 1 {
            live.filter_map(|class| class.first_of(line)).min()
        } else {
            live.filter_map(|class| class.heads.first()).min().map(|(_, head)| *head)
        }
    }

    /// Whether a head is left that may fit.
    pub(super) fn any_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// The lines of the heads that may fit, each once, if there are no more than `most` heads; ascending.
    pub(super) fn live_lines(&self, most: usize) -> Option<Vec<u16>> {
        let heads = || self.live.iter().filter_map(|class| self.class(*class)).map(|class| &class.heads);
        if heads().map(BTreeSet::len).sum::<usize>() > most {
            return None;
        }
        let mut lines: Vec<u16> = heads().flatten().map(|(line, _)| *line).collect();
        lines.sort_unstable();
        lines.dedup();
        Some(lines)
    }

    /// The first head of a line that does not fit, of one queue's or of all.
    pub(super) fn first_blocked(&self, line: usize, of_queue: Option<QueueId>) -> Option<Head> {
        let meant = |group: &Group| of_queue.is_none_or(|queue| queue == group.queue);
        let of_line = |head: &&Head| self.group(head.2).is_some_and(|group| group.line() == line && meant(group));
        let number = u16::try_from(line).ok()?;
        let closed = self.closed.values().flatten().filter_map(|(_, class)| {
            let class = self.class(*class)?;
            if of_queue.is_none() || self.count > 1 {
                return class.first_of(number);
            }
            class.heads.iter().map(|(_, head)| *head).filter(|head| of_line(&head)).min()
        });
        let parked = self.parked.values().flatten().filter(of_line).copied();
        closed.chain(parked).min()
    }

    /// The first head of a line that lacks room, of the groups that are not left out.
    pub(super) fn first_without_room(&self, line: usize, left_out: impl Fn(GroupId) -> bool) -> Option<Head> {
        let number = u16::try_from(line).ok()?;
        let fits = |head: &&Head| !left_out(head.2) && self.group(head.2).is_some_and(|group| group.line() == line);
        let closed = self.closed.values().flatten().filter_map(|(_, class)| {
            let of_line = self.class(*class)?.of_line(number);
            of_line.map(|(_, head)| head).find(|head| !left_out(head.2))
        });
        let roomless = [Lacks::Nodes, Lacks::Box].into_iter().filter_map(|lacks| self.parked.get(&lacks));
        let parked = roomless.filter_map(|parked| parked.iter().find(fits)).min();
        closed.chain(parked).min().copied()
    }

    /// The line of a job.
    pub(super) fn line_of(&self, job: &super::job::Job) -> usize {
        if self.count > 1 { usize::from(job.queue) } else { 0 }
    }

    /// The group of jobs of `queue` that ask for `shape`, which needs the room of `kind` for `ranks`.
    pub(super) fn group_of(&mut self, queue: QueueId, shape: u32, kind: RoomKind, ranks: u32) -> GroupId {
        let at = usize::try_from(shape).unwrap_or(usize::MAX);
        let known = self.index.get(at).map_or(&[][..], Vec::as_slice);
        let before = match known.binary_search_by_key(&queue, |(queue, _)| *queue) {
            Ok(found) => return known.get(found).map_or(0, |(_, group)| *group),
            Err(before) => before,
        };
        let id = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let home = ClassKey { kind, ranks, line: if self.count > 1 { queue } else { 0 } };
        let home_class = self.class_of(home);
        let stand = Stand::Class(home_class);
        let members = Members::default();
        self.groups.push(Group {
            queue,
            shape,
            home,
            home_class,
            stand,
            members,
            head: None,
            short: None,
            sought: None,
        });
        while self.index.len() <= at {
            self.index.push(Vec::new());
        }
        if let Some(known) = self.index.get_mut(at) {
            known.insert(before, (queue, id));
        }
        id
    }

    fn class_of(&mut self, key: ClassKey) -> ClassId {
        let key = ClassKey { line: 0, ..key };
        if let Some(class) = self.class_index.get(&key) {
            return *class;
        }
        let id = u32::try_from(self.classes.len()).unwrap_or(u32::MAX);
        self.classes.push(Class {
            key,
            heads: BTreeSet::new(),
            open: true,
            looked: SimTime(0),
            sought: BTreeSet::new(),
        });
        self.class_index.insert(key, id);
        id
    }

    /// Adds a job whose phase names `group`.
    pub(super) fn push(&mut self, jobs: &Jobs, group: GroupId, slot: Slot) {
        self.waiting += 1;
        let tracks = self.tracks;
        let Some(entered) = self.group_mut(group) else { return };
        entered.members.push(tracks, jobs, slot);
        if entered.members.top() == Some(slot) {
            self.show(jobs, group);
        }
        self.seek(group);
    }

    /// The groups of a queue that have jobs.
    pub(super) fn of_queue(&self, queue: QueueId) -> impl Iterator<Item = GroupId> {
        let of = move |known: &Vec<(QueueId, GroupId)>| {
            let at = known.binary_search_by_key(&queue, |(queue, _)| *queue).ok()?;
            known.get(at).map(|(_, group)| *group)
        };
        let all = self.index.iter().filter_map(of);
        all.filter(|group| self.group(*group).is_some_and(|group| group.head.is_some()))
    }

    /// The job of least key of a group.
    pub(super) fn top(&self, group: GroupId) -> Option<Slot> {
        self.group(group)?.members.top()
    }

    /// Takes the head of a group out: it starts, or is placed elsewhere.
    pub(super) fn pop(&mut self, jobs: &mut Jobs, group: GroupId) -> Option<Slot> {
        let from = self.group_mut(group)?;
        let slot = from.members.pop(jobs)?;
        self.waiting -= 1;
        self.tidy(jobs, group);
        self.show(jobs, group);
        Some(slot)
    }

    /// A job of the group was buried.
    pub(super) fn forget(&mut self, jobs: &mut Jobs, group: GroupId) {
        self.waiting -= 1;
        self.tidy(jobs, group);
        self.show(jobs, group);
    }

    /// Frees the slots of buried jobs on top.
    fn tidy(&mut self, jobs: &mut Jobs, group: GroupId) {
        let Some(tidied) = self.group_mut(group) else { return };
        while let Some(top) = tidied.members.top() {
            if jobs.get(top).is_some_and(|job| job.phase != Phase::Gone) {
                break;
            }
            tidied.members.pop(jobs);
            jobs.reuse(top);
        }
    }

    /// Keeps the head's place up to date. A new head may fit where the old one did not for its length or quota.
    fn show(&mut self, jobs: &Jobs, group: GroupId) {
        let Some(shown) = self.group(group) else { return };
        let old = shown.head;
        let new = shown.members.top().and_then(|slot| jobs.get(slot)).map(|job| (job.key, job.id));
        if old == new {
            self.seek(group);
        } else {
            let stand = Stand::Class(shown.home_class);
            self.set_short(group, None);
            self.leave(group);
            if let Some(shown) = self.group_mut(group) {
                shown.head = new;
                shown.stand = stand;
            }
            self.enter(group);
        }
        self.seek(group);
    }

    fn leave(&mut self, group: GroupId) {
        self.seek_no_more(group);
        let Some((stand, line, Some((key, job)))) =
            self.group(group).map(|group| (group.stand, group.home.line, group.head))
        else {
            return;
        };
        self.turn(line);
        let head = (key, job, group);
        match stand {
            Stand::Parked(lacks) => {
                if let Some(parked) = self.parked.get_mut(&lacks) {
                    parked.remove(&head);
                    if parked.is_empty() {
                        self.parked.remove(&lacks);
                    }
                }
            }
            Stand::Class(id) => {
                let Some(class) = usize::try_from(id).ok().and_then(|at| self.classes.get_mut(at)) else { return };
                if class.heads.remove(&(line, head))
                    && let Some(standing) = self.standing.get_mut(usize::from(line))
                {
                    *standing -= 1;
                }
                if class.heads.is_empty() && class.open {
                    self.live.remove(&id);
                }
            }
        }
    }

    fn enter(&mut self, group: GroupId) {
        let Some((stand, line, Some((key, job)))) =
            self.group(group).map(|group| (group.stand, group.home.line, group.head))
        else {
            return;
        };
        self.turn(line);
        let head = (key, job, group);
        match stand {
            Stand::Parked(lacks) => {
                self.parked.entry(lacks).or_default().insert(head);
            }
            Stand::Class(id) => {
                let Some(class) = usize::try_from(id).ok().and_then(|at| self.classes.get_mut(at)) else { return };
                if class.heads.insert((line, head))
                    && let Some(standing) = self.standing.get_mut(usize::from(line))
                {
                    *standing += 1;
                }
                if class.open {
                    self.live.insert(id);
                }
            }
        }
        self.seek(group);
    }

    /// There is no room for the head of `group`, nor for any of its class, until some is given back.
    pub(super) fn close(&mut self, group: GroupId) {
        if let Some(Stand::Class(id)) = self.group(group).map(|group| group.stand) {
            self.close_class(id);
        }
    }

    fn close_class(&mut self, id: ClassId) {
        let Some(class) = usize::try_from(id).ok().and_then(|at| self.classes.get_mut(at)) else { return };
        if !class.open {
            return;
        }
        class.open = false;
        let key = class.key;
        self.live.remove(&id);
        self.closed.entry(key.kind).or_default().insert((key.ranks, id));
    }

    /// The head of `group` would fit if nothing were reserved: it waits for room that is open.
    pub(super) fn wait_for_open(&mut self, group: GroupId) {
        let Some(mut key) = self.group(group).map(|group| group.home) else { return };
        self.leave(group);
        key.kind.view = View::Open;
        let class = self.class_of(key);
        if let Some(group) = self.group_mut(group) {
            group.stand = Stand::Class(class);
        }
        self.enter(group);
        self.close(group);
    }

    /// The head of `group` is tried again, whatever its class.
    pub(super) fn retry(&mut self, group: GroupId) {
        self.unpark(group);
        let Some(Stand::Class(id)) = self.group(group).map(|group| group.stand) else { return };
        let Some(key) = self.class(id).filter(|class| !class.open).map(|class| class.key) else { return };
        self.open(key.kind, key.ranks, id);
    }

    /// The head of `group` waits for room of any kind.
    pub(super) fn wait_for_all(&mut self, group: GroupId) {
        self.unpark(group);
        self.close(group);
    }

    /// A group that waits for open room waits for any.
    pub(super) fn send_home(&mut self, group: GroupId) {
        let stands = self.group(group).map(|group| (group.stand, group.home));
        if let Some((Stand::Class(id), home)) = stands
            && self.class(id).is_some_and(|class| class.key != ClassKey { line: 0, ..home })
        {
            self.unpark(group);
        }
    }

    /// The head of `group` waits for something other than room.
    pub(super) fn park(&mut self, group: GroupId, lacks: Lacks) {
        self.leave(group);
        if let Some(group) = self.group_mut(group) {
            group.stand = Stand::Parked(lacks);
        }
        self.enter(group);
    }

    /// The group is tried again wherever there is room.
    fn unpark(&mut self, group: GroupId) {
        let Some(class) = self.group(group).map(|group| group.home_class) else { return };
        self.leave(group);
        if let Some(group) = self.group_mut(group) {
            group.stand = Stand::Class(class);
        }
        self.enter(group);
    }

    /// Opens the classes that need at most as many ranks as `room` says there is of each kind.
    pub(super) fn open_for(&mut self, room: impl Fn(&RoomKind) -> u32) {
        let mut opened: Vec<(RoomKind, u32, ClassId)> = Vec::new();
        for (kind, classes) in &self.closed {
            let ranks = room(kind);
            opened.extend(classes.range(..=(ranks, ClassId::MAX)).map(|(ranks, class)| (*kind, *ranks, *class)));
        }
        for (kind, ranks, class) in opened {
            self.open(kind, ranks, class);
        }
    }

    fn open(&mut self, kind: RoomKind, ranks: u32, id: ClassId) {
        if let Some(classes) = self.closed.get_mut(&kind) {
            classes.remove(&(ranks, id));
            if classes.is_empty() {
                self.closed.remove(&kind);
            }
        }
        let Some(class) = usize::try_from(id).ok().and_then(|at| self.classes.get_mut(at)) else { return };
        class.open = true;
        if !class.heads.is_empty() {
            self.live.insert(id);
        }
    }

    /// Tries the groups again that wait for `lacks`.
    pub(super) fn wake_for(&mut self, lacks: Lacks) {
        let woken: Vec<GroupId> = self.parked.get(&lacks).into_iter().flatten().map(|(_, _, group)| *group).collect();
        for group in woken {
            self.unpark(group);
        }
    }

    /// Sorts a group again after keys have changed.
    pub(super) fn sort(&mut self, jobs: &mut Jobs, group: GroupId) {
        self.set_short(group, None);
        let tracks = self.tracks;
        let Some(sorted) = self.group_mut(group) else { return };
        // A buried job must not come out on top.
        sorted.members.sort(tracks, jobs, |jobs, slot| {
            let there = jobs.get(slot).is_some_and(|job| job.phase != Phase::Gone);
            if !there {
                jobs.reuse(slot);
            }
            there
        });
        self.show(jobs, group);
    }

    /// The slots of a group, in no order.
    pub(super) fn members(&self, group: GroupId) -> impl Iterator<Item = Slot> {
        self.group(group).into_iter().flat_map(|group| group.members.iter())
    }

    /// All groups with jobs.
    pub(super) fn all(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        (0..).zip(self.groups.iter()).filter(|(_, group)| group.head.is_some())
    }
}
