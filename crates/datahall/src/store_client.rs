//! The hall's store as the command line uses it: through its S3 endpoint, like every other client.

use std::path::Path;

use dh_core::AccessKey;
use dh_learn::s3::S3;
use dh_learn::store::ObjectStore;
use dh_server::Endpoint;

use crate::failure::{Failure, OrFail};

/// The region that every client has to name and that means nothing here.
pub(crate) const REGION: &str = "us-east-1";

/// A client of the store of a running hall.
pub(crate) fn open(endpoint: &Endpoint, key: &AccessKey) -> Result<S3, Failure> {
    Ok(S3::new(&endpoint.listeners.store, &key.id, key.secret.clone(), REGION)?)
}

/// Puts a file into the store and returns its size.
pub(crate) fn put_file(store: &S3, bucket: &str, key: &str, file: &Path) -> Result<u64, Failure> {
    let bytes = std::fs::read(file).or_fail(format!("read {}", file.display()))?;
    store.create_bucket(bucket)?;
    store.put(bucket, key, &bytes)?;
    u64::try_from(bytes.len()).or_fail("the file's size")
}
