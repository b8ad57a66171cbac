//! The floor from above, to scale: every rack in its place, coloured by what is in it. Above [`DRAWN`] racks, rows are put
//! together and drawn as bars of what they hold.

use dh_units::real;
use std::collections::BTreeMap;

use dh_facility::floor::Limits;

use super::frame::{Column, Subject, count, counted, figure, legend, table};
use super::racks::{Content, Read};
use super::svg::{Area, Hold, Picture, at};
use crate::floors::SiteFloor;

/// Racks that are drawn one by one.
pub(crate) const DRAWN: usize = 2_000;

/// Bars of a floor that is drawn in sums.
const BARS: u32 = 120;

pub(crate) fn plan(subject: Subject<'_>, site: &SiteFloor, read: &Read) -> String {
    let mut kinds: BTreeMap<Content, u64> = BTreeMap::new();
    for content in &read.contents {
        *kinds.entry(*content).or_default() += 1;
    }
    let words: Vec<String> =
        kinds.iter().map(|(kind, racks)| format!("{} of {}", count(*racks), kind.name(subject))).collect();
    let alternative =
        format!("{} in {}: {}", counted(site.floor.racks().into(), "rack", "racks"), rows(site), words.join(", "));
    let (picture, caption) = if read.contents.len() <= DRAWN {
        let (picture, turned) = one_by_one(subject, site, read);
        let turned = if turned { " The plan is turned: rows run from top to bottom." } else { "" };
        (picture, format!("The floor from above, to scale.{turned}"))
    } else {
        let (picture, rows) = in_sums(subject, site, read);
        (
            picture,
            format!(
                "{} are too many to draw one by one: each bar is the sum of {rows} rows.",
                count(site.floor.racks().into())
            ),
        )
    };
    let id = format!("floor-{}", site.site);
    let picture = picture.finish(&id, &format!("Floor of site {} from above", site.site), &alternative);
    let names =
        kinds.keys().map(|kind| (if *kind == Content::Mixed { "mixed" } else { kind.class() }, kind.name(subject)));
    let rows: Vec<Vec<String>> =
        kinds.iter().map(|(kind, racks)| vec![super::svg::escape(kind.name(subject)), count(*racks)]).collect();
    let behind = table("Racks by what they hold", &[Column::Words("Content"), Column::Numbers("Racks")], &rows);
    format!("<h3>From above</h3>{}{}", legend(names), figure(&picture, &caption, &behind))
}

fn rows(site: &SiteFloor) -> String {
    counted(site.floor.rows().into(), "row", "rows")
}

/// Where a rack's left front corner is, in metres; none for a rack without devices.
pub(crate) fn position(site: &SiteFloor, rack: u32) -> Option<(f64, f64)> {
    let shelf = site.floor.elevation(rack).into_iter().next()?;
    let slot = site.floor.place(shelf.group, shelf.index)?;
    Some((slot.x.0, slot.y.0))
}

fn one_by_one(subject: Subject<'_>, site: &SiteFloor, read: &Read) -> (Picture, bool) {
    const MARGIN: f64 = 34.0;
    let Limits { width, depth, .. } = Limits::default();
    let places: Vec<Option<(f64, f64)>> = (0..site.floor.racks()).map(|rack| position(site, rack)).collect();
    let far = |of: fn((f64, f64)) -> f64| places.iter().flatten().map(|place| of(*place)).fold(0.0, f64::max);
    let (long, deep) = (far(|place| place.0) + width.0, far(|place| place.1) + depth.0);
    // A hall much deeper than its rows are long is drawn lying down.
    let turned = deep > long * 1.2;
    let (across, down) = if turned { (deep, long) } else { (long, deep) };
    let scale = ((1_100.0 - 2.0 * MARGIN) / across).min(86.0).min(760.0 / down);
    let w = (across * scale + 2.0 * MARGIN).max(420.0);
    let mut picture = Picture::new(w, down * scale + 2.0 * MARGIN + 34.0);
    picture.round(Area::new(MARGIN - 12.0, MARGIN - 12.0, across * scale + 24.0, down * scale + 24.0), "hall", "");
    let mut named = None;
    for ((rack, place), content) in (0..).zip(&places).zip(&read.contents) {
        let Some((x, y)) = *place else { continue };
        let (x, y, w, h) = if turned { (y, x, depth.0, width.0) } else { (x, y, width.0, depth.0) };
        let area = Area::new(MARGIN + x * scale, MARGIN + y * scale, w * scale, h * scale);
        let name = site.floor.rack_name(rack);
        let power = site.floor.rack_power(rack);
        let tip = format!("{name}: {}, {} rated", content.name(subject), power.rated);
        let class = format!("{} lit", content.class());
        picture.area(area, &class, &tip);
        if *content == Content::Mixed {
            picture.area(area, "hatch", &tip);
        }
        let (middle, low) = area.middle();
        if area.w > 26.0 {
            picture.text((middle, low + 4.0), "on x b", Hold::Middle, &name);
        }
        let row: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
        if named.as_ref() != Some(&row) {
            let place = if turned { (middle, MARGIN - 18.0) } else { (MARGIN - 18.0, low + 4.0) };
            picture.text(place, "s b", if turned { Hold::Middle } else { Hold::End }, &row);
            named = Some(row);
        }
    }
    let low = MARGIN + down * scale + 34.0;
    scale_bar(&mut picture, low, scale, MARGIN);
    (picture, turned)
}

/// A bar of a round number of metres that is at least 60 pixels long.
fn scale_bar(picture: &mut Picture, y: f64, scale: f64, x: f64) {
    let metres =
        [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0].into_iter().find(|metres| metres * scale >= 60.0).unwrap_or(200.0);
    let end = x + metres * scale;
    let [from, to, high, low] = [x, end, y - 4.0, y + 4.0].map(at);
    picture.path(&format!("M{from} {high}V{low}M{from} {}H{to}M{to} {high}V{low}", at(y)), "frame", "");
    picture.text((end + 8.0, y + 4.0), "s", Hold::Start, format!("{metres} m"));
}

/// Bars of rows put together, and how many rows a bar has.
fn in_sums(subject: Subject<'_>, site: &SiteFloor, read: &Read) -> (Picture, u32) {
    const STEP: f64 = 15.0;
    const LONG: f64 = 880.0;
    let floor = &site.floor;
    let of_row = floor.racks().div_ceil(floor.rows().max(1));
    let together = floor.rows().div_ceil(BARS).max(1);
    let size = usize::try_from(of_row.saturating_mul(together)).unwrap_or(usize::MAX).max(1);
    let bars: Vec<&[Content]> = read.contents.chunks(size).collect();
    let mut picture = Picture::new(1_100.0, STEP * real(u64::try_from(bars.len()).unwrap_or(0)) + 12.0);
    let mut y = 6.0;
    let mut first = 0_u32;
    for bar in bars {
        let mut kinds: BTreeMap<Content, u32> = BTreeMap::new();
        for content in bar {
            *kinds.entry(*content).or_default() += 1;
        }
        let racks = u32::try_from(bar.len()).unwrap_or(0);
        let names = format!("{} to {}", floor.rack_name(first), floor.rack_name(first + racks.saturating_sub(1)));
        picture.text((168.0, y + 10.0), "s", Hold::End, &names);
        let mut x = 180.0;
        for (kind, racks) in kinds {
            let w = LONG * f64::from(racks) / real(u64::try_from(size).unwrap_or(1));
            let area = Area::new(x, y, w, STEP - 3.0);
            let tip = format!("{names}: {} of {}", count(racks.into()), kind.name(subject));
            picture.area(area, &format!("{} lit", kind.class()), &tip);
            if kind == Content::Mixed {
                picture.area(area, "hatch", &tip);
            }
            x += w;
        }
        first += racks;
        y += STEP;
    }
    (picture, together)
}
