//! `[workload.NAME]` of kind "pretrain": degrees of parallelism that are not searched for, and what the search is for.

use serde::{Deserialize, Serialize};

use crate::docs::Doc;
use crate::section::Section;
use crate::write::Writer;

/// What the layout of a training is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimise {
    /// The least time.
    #[default]
    Time,
    /// The least cost.
    Cost,
    /// The least energy.
    Energy,
}

pub(super) const OPTIMISE: [(&str, Optimise); 3] =
    [("time", Optimise::Time), ("cost", Optimise::Cost), ("energy", Optimise::Energy)];

impl Optimise {
    /// The word in blueprints.
    pub fn word(self) -> &'static str {
        OPTIMISE.iter().find(|(_, optimise)| *optimise == self).map_or("", |(word, _)| word)
    }
}

/// Degrees of parallelism that somebody has decided; those that are none are searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PinnedLayout {
    /// Tensor parallelism.
    pub tp: Option<u32>,
    /// Pipeline stages.
    pub pp: Option<u32>,
    /// Data-parallel replicas.
    pub dp: Option<u32>,
    /// Context parallelism.
    pub cp: Option<u32>,
    /// Expert parallelism.
    pub ep: Option<u32>,
    /// Parts of the model per stage.
    pub vpp: Option<u32>,
    /// Sequences of a micro-batch.
    pub micro_batch: Option<u32>,
}

pub(crate) const LAYOUT_DOC: Doc = Doc {
    pattern: "workload.*.layout",
    about: "Degrees of parallelism that are decided; what is left out is searched for.",
    keys: &[
        ("tp", "Tensor parallelism: accelerators that share each matrix."),
        ("pp", "Pipeline stages."),
        ("dp", "Data-parallel replicas."),
        ("cp", "Context parallelism: accelerators that share each sequence."),
        ("ep", "Expert parallelism: accelerators that the experts of a layer are dealt out over."),
        ("vpp", "Parts of the model per pipeline stage, interleaved; 1 is the plain pipeline."),
        ("micro_batch", "Sequences that a replica works on at once."),
    ],
};

/// The largest degree: as many as the largest hall has accelerators.
const DEGREE_MAX: u32 = 1 << 30;

pub(super) fn read(section: &Section<'_>) -> PinnedLayout {
    let degree = |key| section.integer(key, 1..=DEGREE_MAX).map(|degree| degree.value);
    let pinned = PinnedLayout {
        tp: degree("tp"),
        pp: degree("pp"),
        dp: degree("dp"),
        cp: degree("cp"),
        ep: degree("ep"),
        vpp: degree("vpp"),
        micro_batch: degree("micro_batch"),
    };
    section.finish();
    pinned
}

pub(super) fn write(out: &mut Writer<'_>, pinned: &PinnedLayout) {
    let degrees = [
        ("tp", pinned.tp),
        ("pp", pinned.pp),
        ("dp", pinned.dp),
        ("cp", pinned.cp),
        ("ep", pinned.ep),
        ("vpp", pinned.vpp),
        ("micro_batch", pinned.micro_batch),
    ];
    let written: Vec<String> =
        degrees.into_iter().filter_map(|(key, degree)| degree.map(|degree| format!("{key} = {degree}"))).collect();
    if !written.is_empty() {
        out.raw("layout", &format!("{{ {} }}", written.join(", ")));
    }
}
