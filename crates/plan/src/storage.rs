//! Stores: what their nodes hold and how fast they are, against what is asked of them.

use dh_blueprint::{Kind, Store};
use dh_units::{Bytes, BytesPerSec, whole};
use serde::Serialize;

use crate::book::Book;
use crate::pools::PoolPlan;

/// A store on a pool of nodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StorePlan {
    /// Its name.
    pub name: String,
    /// The pool that holds it.
    pub pool: String,
    /// All drives.
    pub drives: u64,
    /// What they hold.
    #[serde(rename = "raw_bytes")]
    pub raw: Bytes,
    /// What is left for data after the erasure code.
    #[serde(rename = "usable_bytes")]
    pub usable: Bytes,
    /// What all drives and ports together read.
    #[serde(rename = "read_bytes_per_second")]
    pub read: BytesPerSec,
    /// What they write, pieces of parity not counted.
    #[serde(rename = "write_bytes_per_second")]
    pub write: BytesPerSec,
    /// What the blueprint wants to be written, if it says.
    #[serde(rename = "write_wanted_bytes_per_second")]
    pub write_wanted: Option<BytesPerSec>,
    /// What the blueprint wants to be read, if it says.
    #[serde(rename = "read_wanted_bytes_per_second")]
    pub read_wanted: Option<BytesPerSec>,
    /// What the blueprint wants to keep, if it says.
    #[serde(rename = "capacity_wanted_bytes")]
    pub capacity_wanted: Option<Bytes>,
}

/// Stores whose pool has drives that the catalogue knows, under `storage.NAME`.
pub(crate) fn stores(book: &mut Book<'_>, pools: &[PoolPlan]) -> Vec<StorePlan> {
    let settings = book.settings;
    let of = |(name, store): (&String, &Store)| one(book, name, store, pools);
    settings.stores.iter().filter_map(of).collect()
}

fn one(book: &mut Book<'_>, name: &str, store: &Store, pools: &[PoolPlan]) -> Option<StorePlan> {
    let pool = pools.iter().find(|pool| Some(&pool.name) == store.pool.as_ref())?;
    let node = pool.item.name.clone();
    let (drives_item, drive_name) = (pool.item.drives.clone()?, pool.item.drive.clone()?.value);
    let drive = book.settings.catalog.drive(&drive_name)?.clone();
    let id = |key: &str| format!("storage.{name}.{key}");
    let each = book.fact(Kind::Node, &node, "drives", "drives of a node", &drives_item);
    let capacity = book.fact(Kind::Drive, &drive.name, "capacity", "capacity of a drive", &drive.capacity);
    let reads = book.fact(Kind::Drive, &drive.name, "read", "reading of a drive", &drive.read);
    let writes = book.fact(Kind::Drive, &drive.name, "write", "writing of a drive", &drive.write);
    let drives = u64::from(pool.nodes) * u64::from(drives_item.value);
    let formula = format!("{} nodes x {}", pool.nodes, drives_item.value);
    let drives_id = book.sum(&id("drives"), "drives", drives, formula, &[pool.nodes_id.clone(), each]);
    let raw = drive.capacity.value * drives;
    let formula = format!("{drives} x {}", drive.capacity.value);
    let raw_id = book.sum(&id("raw"), "what all drives hold", raw, formula, &[drives_id.clone(), capacity]);
    let overhead = store.code.map_or(1.0, dh_blueprint::ErasureCode::overhead);
    let code = store.code.map_or_else(|| "no erasure code".to_owned(), |code| format!("code {code}"));
    let path = format!("store.{name}.code");
    let overhead_id = book.says(&path, &format!("raw bytes for each byte kept ({code})"), overhead);
    let usable = Bytes(whole(raw.as_f64() / overhead));
    let usable_id = book.sum(
        &id("usable"),
        "room for data",
        usable,
        format!("{raw} / {} ({code})", dh_units::significant(overhead)),
        &[raw_id, overhead_id.clone()],
    );
    // A node's drives may be faster than its ports.
    let ports = ports(book, &node, pool);
    let nodes = f64::from(pool.nodes);
    let limited = |drive: BytesPerSec| {
        let all = drive * f64::from(drives_item.value);
        ports.as_ref().map_or(all, |(speed, _)| if *speed < all { *speed } else { all })
    };
    let mut inputs = vec![drives_id, reads];
    inputs.extend(ports.as_ref().map(|(_, id)| id.clone()));
    let read = limited(drive.read.value) * nodes;
    let words = |what: BytesPerSec| {
        format!("{} nodes x the lesser of {} drives x {what} and the node's ports", pool.nodes, drives_item.value)
    };
    book.sum(&id("read"), "what it reads", read, words(drive.read.value), &inputs);
    let write = limited(drive.write.value) * nodes / overhead;
    inputs.push(writes);
    inputs.push(overhead_id);
    inputs.push(usable_id);
    let formula = format!("{} / {} written for each byte", words(drive.write.value), dh_units::significant(overhead));
    book.sum(&id("write"), "what it writes", write, formula, &inputs);
    let path = |key: &str| format!("store.{name}.{key}");
    if let Some(wanted) = store.write {
        book.says(&path("write"), "what is to be written", wanted);
    }
    if let Some(wanted) = store.read {
        book.says(&path("read"), "what is to be read", wanted);
    }
    Some(StorePlan {
        name: name.to_owned(),
        pool: pool.name.clone(),
        drives,
        raw,
        usable,
        read,
        write,
        write_wanted: store.write,
        read_wanted: store.read,
        capacity_wanted: store.capacity,
    })
}

/// What a node's storage ports carry together, and the id of it.
fn ports(book: &mut Book<'_>, node: &str, pool: &PoolPlan) -> Option<(BytesPerSec, String)> {
    let (ports, speed) = (pool.item.storage_ports.as_ref()?, pool.item.storage_speed.as_ref()?);
    let count = book.fact(Kind::Node, node, "storage_ports", "storage ports of a node", ports);
    let each = book.fact(Kind::Node, node, "storage_speed", "speed of a storage port", speed);
    let all = BytesPerSec::from(speed.value * f64::from(ports.value));
    let id = format!("storage.pool.{}.ports", pool.name);
    if book.ledger.get(&id).is_none() {
        book.sum(
            &id,
            "what a node's storage ports carry",
            all,
            format!("{} x {}", ports.value, speed.value),
            &[count, each],
        );
    }
    Some((all, id))
}
