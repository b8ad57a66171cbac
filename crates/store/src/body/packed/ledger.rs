//! What transactions do to the segment table.

use std::collections::BTreeMap;

use super::{CodedRow, SegmentRow, Segments};
use crate::extent::{ExtentRef, Place};

/// What a transaction does to the segment table: live bytes come and go in the same one as the rows that name them.
pub(crate) struct Ledger<'s> {
    segments: &'s Segments,
    rows: BTreeMap<u64, SegmentRow>,
}

impl<'s> Ledger<'s> {
    pub(crate) const fn new(segments: &'s Segments) -> Self {
        Self { segments, rows: BTreeMap::new() }
    }

    fn row(&mut self, segment: u64) -> &mut SegmentRow {
        let segments = self.segments;
        self.rows.entry(segment).or_insert_with(|| segments.row(segment).unwrap_or_else(|| segments.fresh_row(segment)))
    }

    /// A change that added the body `added` and freed others.
    pub(crate) fn change(&mut self, added: Option<&ExtentRef>, freed: &[ExtentRef]) {
        if let Some(extent) = added
            && let Place::Packed { segment, offset } = extent.place
        {
            let row = self.row(segment);
            row.live = row.live.saturating_add(extent.stored);
            row.end = row.end.max(offset + extent.stored);
        }
        for extent in freed {
            if let Place::Packed { segment, .. } = extent.place {
                let row = self.row(segment);
                row.live = row.live.saturating_sub(extent.stored);
            }
        }
    }

    /// A segment lies in a coded file from now on.
    pub(crate) fn coded(&mut self, segment: u64, coded: CodedRow) {
        let row = self.row(segment);
        row.coded = Some(coded);
        row.copies.clear();
    }

    /// The rows that changed; `None` for those to be removed, as nothing in the segment lives and nothing will.
    pub(crate) fn finish(self) -> Vec<(u64, Option<SegmentRow>)> {
        let segments = self.segments;
        let rows = self.rows.into_iter();
        rows.map(|(id, row)| (id, (row.live > 0 || segments.busy(id)).then_some(row))).collect()
    }
}
