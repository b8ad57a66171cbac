//! The hall as one sees it from its corner: every rack a block of its own height, in the colour of what it holds.

use std::collections::BTreeSet;

use dh_facility::floor::Limits;

use super::floor::{DRAWN, position};
use super::frame::{Subject, counted, legend};
use super::racks::{Content, Read, read};
use super::solid::View;
use super::svg::{Picture, at};
use crate::floors::SiteFloor;

/// Height of a rack unit in metres (EIA-310).
const UNIT: f64 = 0.044_45;

/// What is seen around the racks, in metres.
const AROUND: f64 = 0.9;

/// The site with the most racks; nothing where they are too many to be told apart, or none.
pub(crate) fn view(subject: Subject<'_>) -> String {
    let sites = subject.plan.floors.sites.iter().filter(|site| site.floor.racks() > 0);
    // Of equal ones the first, by name.
    let largest = sites.reduce(|best, site| if site.floor.racks() > best.floor.racks() { site } else { best });
    let Some(site) = largest else { return String::new() };
    let read = read(site);
    if read.contents.len() > DRAWN {
        return String::new();
    }
    let kinds: BTreeSet<Content> = read.contents.iter().copied().collect();
    let picture = draw(subject, site, &read, &kinds);
    let names = kinds.iter().map(|kind| (kind.class(), kind.name(subject)));
    format!("<figure>{picture}{}</figure>", legend(names))
}

fn draw(subject: Subject<'_>, site: &SiteFloor, read: &Read, kinds: &BTreeSet<Content>) -> String {
    const WIDTH: f64 = 1_130.0;
    let Limits { width, depth, .. } = Limits::default();
    let height = f64::from(subject.settings.sites.get(&site.site).map_or(48, |site| site.rack_height)) * UNIT;
    let places: Vec<Option<(f64, f64)>> = (0..site.floor.racks()).map(|rack| position(site, rack)).collect();
    let far = |of: fn((f64, f64)) -> f64| places.iter().flatten().map(|place| of(*place)).fold(0.0, f64::max);
    let size = [far(|place| place.0) + width.0 + 2.0 * AROUND, far(|place| place.1) + depth.0 + 2.0 * AROUND, height];
    let (view, (wide, high)) =
        View::fitting(size, (0.0, 6.0), (WIDTH, (230.0 + 12.0 * f64::from(site.floor.racks())).min(470.0)));
    let view = View { origin: (view.origin.0 + (WIDTH - wide) / 2.0, view.origin.1), scale: view.scale };
    let mut picture = Picture::new(WIDTH, high + 14.0);
    let [x, y, _] = size;
    let corners = [[0.0, 0.0, 0.0], [x, 0.0, 0.0], [x, y, 0.0], [0.0, y, 0.0]].map(|corner| view.project(corner));
    let mut slab = String::new();
    for (place, (right, down)) in corners.into_iter().enumerate() {
        put!(slab, "{}{} {}", if place == 0 { "M" } else { "L" }, at(right), at(down));
    }
    picture.path(&(slab + "Z"), "slab", "");
    let name = |kind: &Content| {
        let place = kinds.iter().position(|known| known == kind).unwrap_or(0);
        format!("block-{place}")
    };
    let alone = View { origin: (0.0, 0.0), scale: view.scale };
    for kind in kinds {
        let mut block = Picture::new(0.0, 0.0);
        alone.block(&mut block, [0.0; 3], [width.0, depth.0, height], &format!("{} lit", kind.class()), "");
        picture.define(&name(kind), &block);
    }
    for (place, kind) in places.iter().zip(&read.contents) {
        if let Some((x, y)) = place {
            picture.again(&name(kind), view.project([x + AROUND, y + AROUND, 0.0]));
        }
    }
    let racks = counted(site.floor.racks().into(), "rack", "racks");
    let alternative = format!("{racks} in {}", counted(site.floor.rows().into(), "row", "rows"));
    picture.finish("hall", &format!("The hall of site {}", site.site), &alternative)
}
