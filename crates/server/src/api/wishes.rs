//! What a job asks for that is looked up before it is accepted: nodes by name, data in the store.

use dh_hall::JobSpec;
use dh_store::{ListQuery, Store};

use super::{Api, Failed};
use crate::{Error, job_access};

/// Names of nodes as the hall has them: lists such as `gpu[001-004]` are read, and names of the executor's own system understood.
/// Who has no such node keeps the name, and is told by the hall.
pub(super) fn name_nodes(api: &Api, spec: &mut JobSpec) -> Result<(), Failed> {
    if spec.nodes.is_empty() && spec.avoid_nodes.is_empty() {
        return Ok(());
    }
    let hosts = api.executor.hosts();
    let hall = api.hall.read();
    let known = |name: &str| hall.nodes().any(|(_, node)| node.spec.name == name);
    let in_hall = |name: String| {
        if known(&name) {
            return name;
        }
        let host = hosts.iter().find(|host| host.name == name);
        let node = host.and_then(|host| hall.nodes().find(|(id, _)| *id == host.node));
        node.map_or(name, |(_, node)| node.spec.name.clone())
    };
    for list in [&mut spec.nodes, &mut spec.avoid_nodes] {
        let mut names = Vec::with_capacity(list.len());
        for text in list.drain(..) {
            let read = dh_exec::host_list(&text).ok_or_else(|| {
                Error::Invalid(format!("`{text}` is no list of nodes; write `gpu-1` or `gpu-[0-3,7]`"))
            })?;
            names.extend(read.into_iter().map(in_hall));
        }
        // One order and no repetition, so that the same wish is the same wish.
        names.sort_unstable();
        names.dedup();
        *list = names;
    }
    Ok(())
}

/// Whether everything that a job reads is in the store.
pub(super) async fn find_data(store: &Store, spec: &JobSpec) -> Result<(), Failed> {
    for text in &spec.datasets {
        let Some((bucket, prefix)) = job_access::place_of(text) else { continue };
        if !is_there(store, &bucket, &prefix).await? {
            let failed = Failed::from(Error::NotFound(format!("{text} in the store")));
            return Err(failed.hint("`datahall store cp` brings data in; `--no-check` submits without a look"));
        }
    }
    Ok(())
}

/// Whether there is an object of this name, or one below it; of no name, a bucket.
async fn is_there(store: &Store, bucket: &str, prefix: &str) -> Result<bool, Error> {
    let missing = |error: &dh_store::Error| matches!(error, dh_store::Error::NoSuchBucket(_));
    let below = |prefix: String| ListQuery { prefix, limit: 1, ..ListQuery::default() };
    if prefix.is_empty() {
        return Ok(store.buckets().await?.iter().any(|known| known.name == bucket));
    }
    match store.list(bucket, below(format!("{prefix}/"))).await {
        Ok(page) if !page.entries.is_empty() => return Ok(true),
        Err(error) if missing(&error) => return Ok(false),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    match store.head(bucket, prefix).await {
        Ok(_) => Ok(true),
        Err(dh_store::Error::NoSuchKey { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn data_is_an_object_a_prefix_or_a_bucket() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(dh_store::StoreConfig::new(folder.path().join("store"))).await.unwrap();
        store.create_bucket("data").await.unwrap();
        store.put_bytes("data", "set/part-0", "x").await.unwrap();
        store.put_bytes("data", "one.csv", "x").await.unwrap();
        for (bucket, prefix, there) in [
            ("data", "", true),
            ("data", "set", true),
            ("data", "set/part-0", true),
            ("data", "one.csv", true),
            ("data", "se", false),
            ("data", "one.csv/below", false),
            ("other", "", false),
            ("other", "set", false),
        ] {
            assert_eq!(is_there(&store, bucket, prefix).await.unwrap(), there, "{bucket}/{prefix}");
        }
        store.close().await;
    }
}
