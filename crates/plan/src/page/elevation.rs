//! Racks from the front: each kind of rack once, with its units, its devices and its power against the limit.

use super::frame::{Column, Subject, count, counted, table};
use super::racks::{Alike, Device, Read, Sort};
use super::svg::{Area, Hold, Picture, escape, fit, nth};
use crate::floors::SiteFloor;

/// Kinds of racks that are drawn; the table has them all.
const DRAWN: usize = 20;

pub(crate) fn racks(subject: Subject<'_>, site: &SiteFloor, read: &Read) -> String {
    let height = subject.settings.sites.get(&site.site).map_or(48, |site| site.rack_height);
    // Most often seen first; kinds seen as often in the order in which they stand.
    let mut order: Vec<&Alike> = read.alike.iter().collect();
    order.sort_by_key(|kind| std::cmp::Reverse(kind.racks.len()));
    let mut text = "<h3>From the front</h3>".to_owned();
    let rest = order.len().saturating_sub(DRAWN);
    put!(
        text,
        "<p class=\"note\">Racks with the same devices in the same units are drawn once: {}{}. Below each \
         rack its rated power against what the rack may hold; the stroke across is what it draws at work.</p><div class=\"racks\">",
        counted(read.alike.len().try_into().unwrap_or(u64::MAX), "kind", "kinds"),
        if rest > 0 { format!(", of which the {DRAWN} most frequent are drawn") } else { String::new() }
    );
    let mut rows = Vec::new();
    for (place, kind) in order.into_iter().enumerate() {
        let words = contents(subject, &kind.devices);
        let first = kind.racks.first().copied().unwrap_or(0);
        let power = site.floor.rack_power(first);
        let racks = names(site, kind);
        if place < DRAWN {
            put!(
                text,
                "<figure>{}<figcaption><b>× {}</b> {}<br>{}</figcaption></figure>",
                draw(subject, site, kind, place, height),
                count(kind.racks.len().try_into().unwrap_or(u64::MAX)),
                escape(&racks),
                escape(&words)
            );
        }
        rows.push(vec![
            escape(racks),
            count(kind.racks.len().try_into().unwrap_or(u64::MAX)),
            escape(words),
            escape(power.rated),
            escape(power.expected),
            escape(power.limit),
        ]);
    }
    text.push_str("</div>");
    let columns = [
        Column::Words("Racks"),
        Column::Numbers("How many"),
        Column::Words("Devices"),
        Column::Numbers("Rated"),
        Column::Numbers("Expected"),
        Column::Numbers("Limit"),
    ];
    let behind = table("Kinds of racks", &columns, &rows);
    format!("{text}<details><summary>The numbers behind these pictures</summary>{behind}</details>")
}

/// `4 train, 2 compute leaf`.
fn contents(subject: Subject<'_>, devices: &[Device]) -> String {
    let mut sums: Vec<(Sort, u64)> = Vec::new();
    for (_, _, sort) in devices {
        match sums.iter_mut().find(|(known, _)| known == sort) {
            Some((_, sum)) => *sum += 1,
            None => sums.push((*sort, 1)),
        }
    }
    let words: Vec<String> = sums.iter().map(|(sort, sum)| format!("{} {}", count(*sum), sort.name(subject))).collect();
    words.join(", ")
}

/// The first few names of racks.
fn names(site: &SiteFloor, kind: &Alike) -> String {
    let shown: Vec<String> = kind.racks.iter().take(3).map(|rack| site.floor.rack_name(*rack)).collect();
    let more = if kind.racks.len() > shown.len() { " …" } else { "" };
    shown.join(", ") + more
}

fn draw(subject: Subject<'_>, site: &SiteFloor, kind: &Alike, place: usize, height: u32) -> String {
    const UNIT: f64 = 11.0;
    const LEFT: f64 = 24.0;
    const WIDE: f64 = 172.0;
    const TOP: f64 = 24.0;
    let units = f64::from(height);
    let bottom = TOP + units * UNIT;
    let mut picture = Picture::new(216.0, bottom + 54.0);
    let first = kind.racks.first().copied().unwrap_or(0);
    let name = site.floor.rack_name(first);
    picture.text((LEFT + WIDE / 2.0, 15.0), "t b", Hold::Middle, &name);
    picture.round(Area::new(LEFT - 5.0, TOP - 5.0, WIDE + 10.0, units * UNIT + 10.0), "frame", "");
    picture.area(Area::new(LEFT, TOP, WIDE, units * UNIT), "track", "");
    for u in (1..=height).filter(|u| *u == 1 || u.is_multiple_of(4)) {
        let y = bottom - f64::from(u) * UNIT;
        picture.text((LEFT - 8.0, y + 8.0), "u", Hold::End, u);
    }
    for (u, high, sort) in &kind.devices {
        let y = bottom - f64::from(u + high - 1) * UNIT;
        let area = Area::new(LEFT, y, WIDE, f64::from(*high) * UNIT);
        let label = sort.name(subject);
        let top = u + high - 1;
        let tip = if *high > 1 { format!("{label}, U{u} to U{top}") } else { format!("{label}, U{u}") };
        picture.area(area, &format!("{} cut", sort.class()), &tip);
        let class = if *high > 1 { "on" } else { "on xx" };
        picture.text(
            (LEFT + 8.0, area.middle().1 + if *high > 1 { 4.0 } else { 3.0 }),
            class,
            Hold::Start,
            fit(&label, WIDE - 12.0, 11.0),
        );
    }
    let power = site.floor.rack_power(first);
    let (rated, expected) = (power.rated / power.limit, power.expected / power.limit);
    let y = bottom + 16.0;
    picture.area(Area::new(LEFT, y, WIDE, 9.0), "track", "");
    picture.area(
        Area::new(LEFT, y, (WIDE * rated).min(WIDE), 9.0),
        "p0",
        &format!("rated {} of {}", power.rated, power.limit),
    );
    picture.line((LEFT + WIDE * expected.min(1.0), y - 3.0), (LEFT + WIDE * expected.min(1.0), y + 12.0), "frame");
    picture.text((LEFT, y + 25.0), "s", Hold::Start, format!("{} of {}", power.rated, power.limit));
    let alternative = format!(
        "{}: {}; {} of {} rated, {} at work",
        name,
        contents(subject, &kind.devices),
        power.rated,
        power.limit,
        power.expected
    );
    let id = format!("rack-{}-{}", site.site, nth(place));
    picture.finish(&id, &format!("Rack {name} from the front"), &alternative)
}
