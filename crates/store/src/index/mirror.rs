//! The database's file: pages on one or more drives, each with a checksum that is kept apart from it.
//!
//! Layout: groups of 2 MiB, each `checksum page A | checksum page B | 510 pages of 4 KiB`. A checksum page is
//! `generation u64 | 510 checksums u64 | crc u64`; A and B take turns, so that one of them is whole whatever a crash tears.
//! A page's checksum covers its number too; zero stands for a page that was never written.
//!
//! Why a crash does no harm: redb writes no page that its last durable commit reaches, except its header, page 0, which
//! checks itself. So after a crash every page that is read has the checksum of a sync that was finished. A page that does
//! not check is read from the next copy, and written again where it was wrong.
//! Memory: 4 KiB for each group that was touched, a five-hundredth of the file.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::place::{Place, is_full};
use crate::block::bound_crc;
use crate::disk::DiskFile;

const PAGE: u64 = 4_096;
const PAGE_BYTES: usize = 4_096;
/// Pages of a group that hold data, and all of them.
const DATA: u64 = 510;
const DATA_PAGES: usize = 510;
const ALL: u64 = 512;

/// What happened to the index's files.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// A sync failed on the last copy: nobody knows what the disk holds.
    pub(crate) sync_failed: AtomicBool,
    /// A page could be read from no copy: the database takes no more reads until it is opened again.
    pub(crate) unreadable: AtomicBool,
    /// Pages that did not check on a copy.
    pub(crate) damaged: AtomicU64,
    /// Those of them that were written again from another copy.
    pub(crate) repaired: AtomicU64,
}

/// One drive's file.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) file: Box<dyn DiskFile>,
    /// Its path, for reports.
    pub(crate) name: String,
    /// Whether it failed: then it is neither read nor written again.
    pub(crate) failed: AtomicBool,
    /// Where it lies; a place that takes no writes is still read.
    pub(crate) place: Place,
}

#[derive(Debug)]
struct Group {
    generation: u64,
    sums: Vec<u64>,
    dirty: bool,
}

#[derive(Debug, Default)]
struct State {
    len: u64,
    groups: Vec<Option<Group>>,
}

/// The file as redb sees it.
#[derive(Debug)]
pub(crate) struct Mirror {
    copies: Vec<Copy>,
    state: Mutex<State>,
    health: Arc<Health>,
    fenced: Arc<AtomicBool>,
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn physical(page: u64) -> u64 {
    (page / DATA * ALL + 2 + page % DATA) * PAGE
}

fn physical_len(len: u64) -> u64 {
    let pages = len / PAGE;
    let rest = pages % DATA;
    (pages / DATA * ALL + if rest > 0 { rest + 2 } else { 0 }) * PAGE
}

fn logical_len(len: u64) -> u64 {
    let pages = len / PAGE;
    (pages / ALL * DATA + (pages % ALL).saturating_sub(2)) * PAGE
}

fn page_sum(page: u64, bytes: &[u8]) -> u64 {
    bound_crc(&page.to_le_bytes(), bytes).max(1)
}

fn checks(page: u64, bytes: &[u8], sum: u64) -> bool {
    if sum == 0 { bytes.iter().all(|byte| *byte == 0) } else { page_sum(page, bytes) == sum }
}

fn slot(group: u64, generation: u64) -> u64 {
    (group * ALL + generation % 2) * PAGE
}

fn seal_sums(group: u64, generation: u64, sums: &[u64]) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE_BYTES);
    page.extend_from_slice(&generation.to_le_bytes());
    for sum in sums {
        page.extend_from_slice(&sum.to_le_bytes());
    }
    let crc = bound_crc(&group.to_le_bytes(), &page);
    page.extend_from_slice(&crc.to_le_bytes());
    page
}

/// Generation and checksums of a checksum page; `None` if it is not one.
fn open_sums(group: u64, page: &[u8]) -> Option<(u64, Vec<u64>)> {
    let (body, crc) = page.split_last_chunk::<8>()?;
    if page.iter().all(|byte| *byte == 0) {
        return Some((0, vec![0; DATA_PAGES]));
    }
    if bound_crc(&group.to_le_bytes(), body) != u64::from_le_bytes(*crc) {
        return None;
    }
    let mut words = body.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_le_bytes));
    Some((words.next()?, words.collect()))
}

impl Mirror {
    /// The file on `copies`, which are alike but for what a crash or a bad drive did to them.
    pub(crate) fn new(copies: Vec<Copy>, health: Arc<Health>) -> io::Result<Self> {
        let lengths = copies.iter().filter_map(|copy| copy.file.len().ok());
        let len = lengths.max().ok_or_else(|| invalid("no copy of the index can be read".to_owned()))?;
        let state = Mutex::new(State { len: logical_len(len), groups: Vec::new() });
        Ok(Self { copies, state, health, fenced: Arc::default() })
    }

    /// Setting it makes this handle write nothing any more.
    pub(crate) fn fence(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.fenced)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> impl Iterator<Item = &Copy> {
        self.copies.iter().filter(|copy| !copy.failed.load(Ordering::Acquire))
    }

    /// Does `work` on every copy that takes writes. One that fails is given up if another is good, unless it is just full.
    fn on_all(&self, what: &str, work: impl Fn(&Copy) -> io::Result<()>) -> io::Result<()> {
        if self.fenced.load(Ordering::Acquire) {
            return Err(io::Error::other("this handle of the index was given up"));
        }
        let mut good = 0;
        let mut failures = Vec::new();
        for copy in self.live().filter(|copy| copy.place.usable()) {
            match work(copy) {
                Ok(()) => good += 1,
                Err(error) => failures.push((copy, error)),
            }
        }
        if let Some(at) = failures.iter().position(|(_copy, error)| good == 0 || is_full(error)) {
            return Err(failures.swap_remove(at).1);
        }
        for (copy, error) in failures {
            tracing::error!(%error, file = copy.name, what, "a copy of the index failed and is given up");
            copy.failed.store(true, Ordering::Release);
            copy.place.give_up(&format!("{what} {}: {error}", copy.name));
        }
        if good > 0 { Ok(()) } else { Err(io::Error::other("no copy of the index is left")) }
    }

    /// Loads a group's checksums: the newest that a copy has whole.
    fn load<'s>(&self, state: &'s mut State, group: u64) -> io::Result<&'s mut Group> {
        let index = usize::try_from(group).map_err(|_large| invalid("the index is too large".to_owned()))?;
        if state.groups.len() <= index {
            state.groups.resize_with(index + 1, || None);
        }
        let place = state.groups.get_mut(index).ok_or_else(|| invalid("a group of the index".to_owned()))?;
        if let Some(group) = place {
            return Ok(group);
        }
        let mut newest: Option<(u64, Vec<u64>)> = None;
        let mut error = None;
        for copy in self.live() {
            for generation in 0..2 {
                let mut page = vec![0; PAGE_BYTES];
                match copy.file.read_at(slot(group, generation), &mut page) {
                    Ok(()) => {}
                    Err(short) if short.kind() == io::ErrorKind::UnexpectedEof => {}
                    Err(other) => {
                        error = Some(other);
                        continue;
                    }
                }
                match open_sums(group, &page) {
                    Some(found) if newest.as_ref().is_none_or(|(have, _sums)| found.0 > *have) => newest = Some(found),
                    Some(_older) => {}
                    // A crash may have torn it, so this alone is no damage.
                    None => tracing::debug!(file = copy.name, group, "a checksum page of the index does not check"),
                }
            }
        }
        let Some((generation, sums)) = newest else {
            return Err(
                error.unwrap_or_else(|| invalid(format!("no checksum page of group {group} of the index checks")))
            );
        };
        Ok(place.insert(Group { generation, sums, dirty: false }))
    }

    fn sum(&self, page: u64) -> io::Result<u64> {
        let mut state = self.lock();
        let group = self.load(&mut state, page / DATA)?;
        let index = usize::try_from(page % DATA).unwrap_or(usize::MAX);
        group.sums.get(index).copied().ok_or_else(|| invalid("a page of the index".to_owned()))
    }

    /// Reads one page from the first copy that has it whole.
    fn read_page(&self, page: u64, out: &mut [u8]) -> io::Result<()> {
        let sum = self.sum(page)?;
        let mut wrong = Vec::new();
        let mut error = None;
        for copy in self.live() {
            match copy.file.read_at(physical(page), out) {
                Ok(()) if checks(page, out, sum) => {
                    self.repair(page, out, &wrong);
                    return Ok(());
                }
                Ok(()) => wrong.push(copy),
                Err(failed) => {
                    tracing::warn!(error = %failed, file = copy.name, page, "a page of the index cannot be read");
                    error = Some(failed);
                }
            }
        }
        // The header is written in place, so a crash may leave it without its checksum; it has its own.
        if let Some(first) = wrong.first().filter(|_first| page == 0) {
            return first.file.read_at(physical(page), out);
        }
        self.health.damaged.fetch_add(1, Ordering::Relaxed);
        self.health.unreadable.store(true, Ordering::SeqCst);
        Err(error.unwrap_or_else(|| invalid(format!("page {page} of the index is damaged on every drive"))))
    }

    fn repair(&self, page: u64, bytes: &[u8], wrong: &[&Copy]) {
        for copy in wrong {
            self.health.damaged.fetch_add(1, Ordering::Relaxed);
            let fenced = self.fenced.load(Ordering::Acquire);
            if !copy.place.usable() {
                continue;
            }
            match copy.file.write_at(physical(page), bytes) {
                Ok(()) if !fenced => {
                    self.health.repaired.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        file = copy.name,
                        page,
                        "a damaged page of the index was repaired from another drive"
                    );
                }
                Ok(()) => {}
                Err(error) => tracing::error!(%error, file = copy.name, page, "a damaged page cannot be repaired"),
            }
        }
    }

    /// Writes whole pages that lie in one group.
    fn write_pages(&self, first: u64, bytes: &[u8]) -> io::Result<()> {
        self.on_all("write", |copy| copy.file.write_at(physical(first), bytes))?;
        let mut state = self.lock();
        let group = self.load(&mut state, first / DATA)?;
        for (page, bytes) in (first..).zip(bytes.chunks(PAGE_BYTES)) {
            let index = usize::try_from(page % DATA).unwrap_or(usize::MAX);
            if let Some(sum) = group.sums.get_mut(index) {
                *sum = page_sum(page, bytes);
            }
        }
        group.dirty = true;
        Ok(())
    }
}

/// The pages of `offset..offset + length`, each with the part of the range that lies in it.
fn pages(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let start = usize::try_from(offset % PAGE).unwrap_or(0);
    let mut page = offset / PAGE;
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= length {
            return None;
        }
        let inside = if done == 0 { start } else { 0 };
        let size = (PAGE_BYTES - inside).min(length - done);
        let item = (page, inside..inside + size, done..done + size);
        done += size;
        page += 1;
        Some(item)
    })
}

impl StorageBackend for Mirror {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.lock().len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut page_bytes = [0; PAGE_BYTES];
        for (page, inside, range) in pages(offset, out.len()) {
            let Some(target) = out.get_mut(range) else { continue };
            if target.len() == PAGE_BYTES {
                self.read_page(page, target)?;
            } else {
                self.read_page(page, &mut page_bytes)?;
                target.copy_from_slice(page_bytes.get(inside).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(PAGE) {
            return Err(invalid(format!("{len} bytes are no whole number of pages")));
        }
        self.on_all("resize", |copy| copy.file.set_len(physical_len(len)))?;
        let mut state = self.lock();
        let (before, after) = (state.len / PAGE, len / PAGE);
        state.len = len;
        if after < before {
            let groups = usize::try_from(after.div_ceil(DATA)).unwrap_or(usize::MAX);
            state.groups.truncate(groups);
            if !after.is_multiple_of(DATA) {
                let group = self.load(&mut state, after / DATA)?;
                let keep = usize::try_from(after % DATA).unwrap_or(usize::MAX);
                group.sums.iter_mut().skip(keep).for_each(|sum| *sum = 0);
                group.dirty = true;
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock();
        for (group, slot_of) in (0_u64..).zip(&mut state.groups) {
            let Some(sums) = slot_of.as_mut().filter(|sums| sums.dirty) else { continue };
            let page = seal_sums(group, sums.generation + 1, &sums.sums);
            self.on_all("write", |copy| copy.file.write_at(slot(group, sums.generation + 1), &page))?;
            sums.generation += 1;
            sums.dirty = false;
        }
        drop(state);
        let synced = self.on_all("sync", |copy| copy.file.sync_data());
        synced.inspect_err(|_error| self.health.sync_failed.store(true, Ordering::SeqCst))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let whole = offset.is_multiple_of(PAGE) && data.len().is_multiple_of(PAGE_BYTES);
        if whole {
            let mut page = offset / PAGE;
            let mut rest = data;
            while !rest.is_empty() {
                let room = usize::try_from(DATA - page % DATA).unwrap_or(1).saturating_mul(PAGE_BYTES);
                let (now, later) = rest.split_at(room.min(rest.len()));
                self.write_pages(page, now)?;
                page += (now.len() / PAGE_BYTES) as u64;
                rest = later;
            }
            return Ok(());
        }
        let mut page_bytes = [0; PAGE_BYTES];
        for (page, inside, range) in pages(offset, data.len()) {
            let Some(source) = data.get(range) else { continue };
            if source.len() < PAGE_BYTES {
                self.read_page(page, &mut page_bytes)?;
            }
            if let Some(target) = page_bytes.get_mut(inside) {
                target.copy_from_slice(source);
            }
            self.write_pages(page, &page_bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk as _, SimDisk};
    use std::path::Path;

    fn mirror(disks: &[SimDisk]) -> (Mirror, Arc<Health>) {
        let health = Arc::new(Health::default());
        let path = Path::new("/drive/index");
        let copies = disks.iter().map(|disk| {
            let place = Place { disk: Arc::new(disk.clone()), dir: "/drive".into(), member: None };
            disk.create_dir(&place.dir).unwrap();
            let file = disk.open(path).or_else(|_absent| disk.create(path)).unwrap();
            Copy { file, name: "index".to_owned(), failed: AtomicBool::new(false), place }
        });
        (Mirror::new(copies.collect(), Arc::clone(&health)).unwrap(), health)
    }

    fn filled(disks: &[SimDisk], pages: u64) -> Mirror {
        let (mirror, _health) = mirror(disks);
        mirror.set_len(pages * PAGE).unwrap();
        for page in 0..pages {
            mirror.write(page * PAGE, &[u8::try_from(page % 251).unwrap(); PAGE_BYTES]).unwrap();
        }
        mirror.sync_data().unwrap();
        mirror
    }

    #[test]
    fn lengths_survive_the_way_there_and_back() {
        for pages in [0, 1, 2, 509, 510, 511, 1_020, 1_021] {
            assert_eq!(logical_len(physical_len(pages * PAGE)), pages * PAGE, "{pages}");
        }
        assert_eq!((physical(0), physical(509), physical(510)), (2 * PAGE, 511 * PAGE, 514 * PAGE));
    }

    #[test]
    fn what_was_written_is_read_over_group_borders_and_in_parts() {
        let disks = [SimDisk::new(64 << 20)];
        let mirror = filled(&disks, 700);
        let mut out = vec![0; 3 * PAGE_BYTES];
        mirror.read(509 * PAGE, &mut out).unwrap();
        assert_eq!((out[0], out[PAGE_BYTES], out[2 * PAGE_BYTES]), (7, 8, 9));
        mirror.write(508 * PAGE, &vec![77; 5 * PAGE_BYTES]).unwrap();
        mirror.write(100, b"hello").unwrap();
        mirror.write(2 * PAGE - 2, b"four").unwrap();
        mirror.sync_data().unwrap();
        let (again, _health) = super::tests::mirror(&disks);
        let mut out = vec![0; 7];
        again.read(99, &mut out).unwrap();
        assert_eq!(out, b"\0hello\0");
        again.read(2 * PAGE - 3, &mut out[..6]).unwrap();
        assert_eq!(&out[..6], b"\x01four\x02");
        let mut page = vec![0; PAGE_BYTES];
        again.read(512 * PAGE, &mut page).unwrap();
        assert!(page.iter().all(|byte| *byte == 77));
        assert!(again.read(699 * PAGE, &mut [0; PAGE_BYTES + 1]).is_err());
    }

    #[test]
    fn a_damaged_page_is_seen_and_read_from_the_other_drive() {
        let disks = [SimDisk::new(64 << 20), SimDisk::new(64 << 20)];
        drop(filled(&disks, 20));
        let place = usize::try_from(physical(5)).unwrap();
        disks[0].flip(Path::new("/drive/index"), place + 17, 3);
        let (both, health) = mirror(&disks);
        let mut page = vec![0; PAGE_BYTES];
        both.read(5 * PAGE, &mut page).unwrap();
        assert!(page.iter().all(|byte| *byte == 5));
        assert_eq!(health.repaired.load(Ordering::Relaxed), 1);
        let (one, _health) = mirror(&disks[..1]);
        one.read(5 * PAGE, &mut page).unwrap();
        disks[0].flip(Path::new("/drive/index"), place, 0);
        let (one, health) = mirror(&disks[..1]);
        assert!(one.read(5 * PAGE, &mut page).is_err());
        assert_eq!(health.damaged.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_checksum_page_that_is_damaged_hides_no_damage() {
        let disks = [SimDisk::new(64 << 20), SimDisk::new(64 << 20)];
        let both = filled(&disks, 20);
        both.write(3 * PAGE, &[99; PAGE_BYTES]).unwrap();
        both.sync_data().unwrap();
        // Generation 2 stands in the first slot.
        disks[0].flip(Path::new("/drive/index"), 40, 1);
        let mut page = vec![0; PAGE_BYTES];
        let (one, _health) = mirror(&disks[..1]);
        assert!(one.read(3 * PAGE, &mut page).is_err(), "the older checksums do not know the newer page");
        assert!(one.read(4 * PAGE, &mut page).is_ok());
        let (both, _health) = mirror(&disks);
        both.read(3 * PAGE, &mut page).unwrap();
        assert!(page.iter().all(|byte| *byte == 99));
    }
}
