//! `[site.NAME]`: a building and its electricity.

use dh_units::UsdPerKwh;

use crate::section::Section;
use crate::settings::Site;

/// A round figure between the average prices for industry and for households; a stated assumption, not a measurement.
const PRICE: UsdPerKwh = UsdPerKwh(0.15);

/// What a site is when nothing is said: no building around the computers, as on a desk.
pub(super) const fn ordinary() -> Site {
    Site { pue: 1.0, price: PRICE, carbon: None }
}

#[expect(clippy::unnecessary_wraps, reason = "every section reader has the same shape")]
pub(super) fn read(section: &Section<'_>) -> Option<Site> {
    // The upper bound only catches percent signs that were left out; the worst published values are near 3.
    let pue = section.real("pue", "a ratio from 1 to 10", |pue| (1.0..=10.0).contains(&pue));
    let price = section.quantity("price");
    let carbon = section.quantity("carbon");
    section.finish();
    let ordinary = ordinary();
    Some(Site {
        pue: pue.map_or(ordinary.pue, |pue| pue.value),
        price: price.map_or(ordinary.price, |price| price.value),
        carbon: carbon.map(|carbon| carbon.value),
    })
}
