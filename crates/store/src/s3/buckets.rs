//! Operations on buckets.

use s3s::dto::{
    Bucket, CreateBucketInput, CreateBucketOutput, DeleteBucketInput, DeleteBucketOutput, GetBucketLocationInput,
    GetBucketLocationOutput, GetBucketVersioningInput, GetBucketVersioningOutput, HeadBucketInput, HeadBucketOutput,
    ListBucketsInput, ListBucketsOutput, Owner,
};
use s3s::{S3Request, S3Result};

use super::convert::{OWNER, timestamp};
use crate::Store;

/// The region that this store is in, as far as clients care.
const REGION: &str = "us-east-1";

pub(super) fn owner() -> Owner {
    Owner { display_name: Some(OWNER.to_owned()), id: Some(OWNER.to_owned()) }
}

pub(super) async fn create(store: &Store, request: S3Request<CreateBucketInput>) -> S3Result<CreateBucketOutput> {
    store.create_bucket(&request.input.bucket).await?;
    Ok(CreateBucketOutput { location: Some(format!("/{}", request.input.bucket)) })
}

pub(super) async fn head(store: &Store, request: S3Request<HeadBucketInput>) -> S3Result<HeadBucketOutput> {
    store.bucket(&request.input.bucket).await?;
    Ok(HeadBucketOutput { bucket_region: Some(REGION.to_owned()), ..HeadBucketOutput::default() })
}

pub(super) async fn list(store: &Store, request: S3Request<ListBucketsInput>) -> S3Result<ListBucketsOutput> {
    let input = request.input;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let after = input.continuation_token.as_deref().unwrap_or_default();
    let most = input.max_buckets.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let mut buckets: Vec<Bucket> = store
        .buckets()
        .await?
        .into_iter()
        .filter(|bucket| bucket.name.starts_with(prefix) && bucket.name.as_str() > after)
        .map(|bucket| Bucket {
            creation_date: Some(timestamp(bucket.created_ms)),
            name: Some(bucket.name),
            ..Bucket::default()
        })
        .collect();
    let more = buckets.len() > most;
    buckets.truncate(most);
    let continuation_token = buckets.last().filter(|_last| more).and_then(|last| last.name.clone());
    Ok(ListBucketsOutput { buckets: Some(buckets), continuation_token, owner: Some(owner()), prefix: input.prefix })
}

pub(super) async fn delete(store: &Store, request: S3Request<DeleteBucketInput>) -> S3Result<DeleteBucketOutput> {
    store.delete_bucket(&request.input.bucket).await?;
    Ok(DeleteBucketOutput::default())
}

pub(super) async fn location(
    store: &Store,
    request: S3Request<GetBucketLocationInput>,
) -> S3Result<GetBucketLocationOutput> {
    store.bucket(&request.input.bucket).await?;
    // S3 says us-east-1 by saying nothing.
    Ok(GetBucketLocationOutput::default())
}

/// Versioning was never switched on, which S3 says by an empty answer.
pub(super) async fn versioning(
    store: &Store,
    request: S3Request<GetBucketVersioningInput>,
) -> S3Result<GetBucketVersioningOutput> {
    store.bucket(&request.input.bucket).await?;
    Ok(GetBucketVersioningOutput::default())
}
