//! `box`, `share` and `slice` of a workload: other shapes than whole accelerators wherever they are.

use dh_units::Bytes;
use serde::{Deserialize, Serialize};

use super::super::Facts;
use crate::codes::Code;
use crate::problem::quoted;
use crate::section::Section;
use crate::write::{Writer, list};

/// The longest side of a box: that of the largest torus.
const SIDE_MAX: u32 = 64;

/// Another shape than whole accelerators wherever they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// All ranks together are a box of a torus with these sides, in accelerators.
    Box([u32; 3]),
    /// Each rank has a part of one accelerator.
    Share {
        /// Thousandths of it, 1 to 999.
        milli: u16,
        /// The memory of it that the rank needs.
        memory: Option<Bytes>,
    },
    /// Each rank has a slice of one accelerator, by the name of its profile.
    Slice(String),
}

pub(super) fn read(section: &Section<'_>, facts: &Facts<'_>) -> Option<Shape> {
    let sides = section.integers("box", 1..=SIDE_MAX);
    let share = section.real("share", "a share above 0, below 1", |share| share > 0.0 && share < 1.0);
    let memory = section.positive("share_memory", Bytes(0));
    let slice = section.text("slice");
    let asked: Vec<&str> = ["box", "share", "slice"].into_iter().filter(|key| section.has(key)).collect();
    if let [first, others @ ..] = asked.as_slice()
        && !others.is_empty()
    {
        section.refuse(others, &format!("cannot stand beside `{first}`"));
        return None;
    }
    if section.has("share_memory") && share.is_none() {
        section.refuse(&["share_memory"], "is a key of a workload with a `share`");
        return None;
    }
    if let Some(slice) = slice {
        let known = facts.catalog.accelerators().filter_map(|item| item.slices.as_ref());
        if known.into_iter().any(|slices| slices.value.profile(&slice.value).is_some()) {
            return Some(Shape::Slice(slice.value));
        }
        let message = format!("no accelerator of the catalogue has slices {}", quoted(&slice.value));
        section.problems.add(Code::NOT_IN_CATALOG, &slice.at, message, None);
        return None;
    }
    if let Some(share) = share {
        let milli = dh_units::whole((share.value * 1000.0).round()).clamp(1, 999);
        let milli = u16::try_from(milli).unwrap_or(999);
        return Some(Shape::Share { milli, memory: memory.map(|memory| memory.value) });
    }
    sides.map(|sides| Shape::Box(sides.value))
}

pub(super) fn write(out: &mut Writer<'_>, shape: &Shape) {
    match shape {
        Shape::Box(sides) => out.raw("box", &list(sides.iter().map(ToString::to_string))),
        Shape::Share { milli, memory } => {
            out.real("share", f64::from(*milli) / 1000.0);
            out.maybe_quantity("share_memory", *memory);
        }
        Shape::Slice(name) => out.text("slice", name),
    }
}
