//! Racks: what is in each, so that racks alike are drawn once; the floor from above and the racks from the front.

use std::collections::BTreeMap;

use dh_facility::floor::Shelf;

use super::elevation;
use super::floor;
use super::frame::{Subject, counted, facts};
use super::style;
use super::svg::escape;
use crate::floors::{SiteFloor, What};

/// What stands in a rack, as a colour says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Content {
    /// Nodes of one pool.
    Pool(usize),
    /// Switches and managers.
    Network,
    /// More than one of these.
    Mixed,
    /// Nothing.
    Empty,
}

impl Content {
    /// The class of its colour.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Pool(place) => style::pool(place),
            Self::Network => style::network(0),
            Self::Mixed | Self::Empty => "rest",
        }
    }

    /// What it is called.
    pub(crate) fn name(self, subject: Subject<'_>) -> String {
        match self {
            Self::Pool(place) => subject.plan.pools.get(place).map_or_else(String::new, |pool| pool.name.clone()),
            Self::Network => "network".to_owned(),
            Self::Mixed => "mixed".to_owned(),
            Self::Empty => "empty".to_owned(),
        }
    }
}

/// What a device is, whichever of its like it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
    /// A node of a pool.
    Node(usize),
    /// A switch of a network.
    Switch(usize, dh_fabric::Role),
    /// A manager of a network.
    Manager(usize),
}

impl Sort {
    fn of(site: &SiteFloor, shelf: &Shelf) -> Option<Self> {
        let what = usize::try_from(shelf.group.0).ok().and_then(|group| site.groups.get(group))?;
        Some(match what {
            What::Nodes { pool, .. } => Self::Node(*pool),
            What::Switches { network, role } => Self::Switch(*network, *role),
            What::Managers { network } => Self::Manager(*network),
        })
    }

    /// The class of its colour.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Node(pool) => style::pool(pool),
            Self::Switch(network, _) | Self::Manager(network) => style::network(network),
        }
    }

    /// What it is called.
    pub(crate) fn name(self, subject: Subject<'_>) -> String {
        let network = |place: usize| subject.plan.networks.get(place).map_or("", |network| network.name.as_str());
        match self {
            Self::Node(pool) => subject.plan.pools.get(pool).map_or_else(String::new, |pool| pool.name.clone()),
            Self::Switch(place, role) => format!("{} {}", network(place), role.name()),
            Self::Manager(place) => format!("{} manager", network(place)),
        }
    }
}

/// A device of a rack: its lowest unit, how many it takes, what it is.
pub(crate) type Device = (u32, u32, Sort);

/// Racks with the same devices in the same units.
#[derive(Debug, Clone)]
pub(crate) struct Alike {
    pub(crate) devices: Vec<Device>,
    /// Their numbers.
    pub(crate) racks: Vec<u32>,
}

/// A site's racks, read once.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    /// Content of each rack.
    pub(crate) contents: Vec<Content>,
    /// Kinds of racks in the order in which they first stand.
    pub(crate) alike: Vec<Alike>,
}

pub(crate) fn read(site: &SiteFloor) -> Read {
    let mut contents = Vec::new();
    let mut alike: Vec<Alike> = Vec::new();
    let mut known: BTreeMap<Vec<Device>, usize> = BTreeMap::new();
    for rack in 0..site.floor.racks() {
        let shelves = site.floor.elevation(rack);
        let devices: Vec<Device> =
            shelves.iter().filter_map(|shelf| Some((shelf.u, shelf.height_u, Sort::of(site, shelf)?))).collect();
        let content = |sort: Sort| match sort {
            Sort::Node(pool) => Content::Pool(pool),
            Sort::Switch(..) | Sort::Manager(_) => Content::Network,
        };
        let mut all = devices.iter().map(|(_, _, sort)| content(*sort));
        let first = all.next().unwrap_or(Content::Empty);
        contents.push(if all.all(|other| other == first) { first } else { Content::Mixed });
        if let Some(kind) = known.get(&devices).and_then(|place| alike.get_mut(*place)) {
            kind.racks.push(rack);
        } else {
            known.insert(devices.clone(), alike.len());
            alike.push(Alike { devices, racks: vec![rack] });
        }
    }
    Read { contents, alike }
}

pub(crate) fn section(subject: Subject<'_>) -> String {
    let mut text = String::new();
    let sites = &subject.plan.floors.sites;
    for site in sites.iter().filter(|site| site.floor.racks() > 0) {
        let read = read(site);
        let id = |key: &str| format!("floor.{}.{key}", site.site);
        if sites.len() > 1 {
            put!(text, "<h3>Site {}</h3>", escape(&site.site));
        }
        text.push_str(&facts(&[
            ("racks", subject.number(&id("racks"))),
            (
                "of nodes, of network",
                format!("{}, {}", subject.number(&id("racks.nodes")), subject.number(&id("racks.network"))),
            ),
            ("rows", subject.number(&id("rows"))),
            ("a rack may hold", subject.number(&id("rack.power"))),
            ("area of rows and aisles", format!("{:.0} m²", site.floor.area_m2())),
        ]));
        text.push_str(&floor::plan(subject, site, &read));
        text.push_str(&elevation::racks(subject, site, &read));
    }
    if text.is_empty() {
        put!(text, "<p>{}.</p>", counted(0, "rack", "racks"));
    }
    text
}
