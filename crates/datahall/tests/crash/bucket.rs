//! An S3 client that tells what it knows and never tries twice by itself: `rusty-s3` signs, `ureq` carries.

use std::sync::Arc;
use std::time::Duration;

use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload, ListObjectsV2, S3Action};
use rusty_s3::{Credentials, UrlStyle};

use crate::site::{Reply, Site, sort};

const SIGNED_FOR: Duration = Duration::from_mins(5);

const CLASS: &str = "x-amz-storage-class";

/// The bucket that the writers share; each has keys of its own.
const NAME: &str = "crash";

pub struct Bucket {
    site: Arc<Site>,
    agent: ureq::Agent,
    credentials: Credentials,
}

impl Bucket {
    pub fn new(site: &Arc<Site>) -> Self {
        let key = site.key();
        let credentials = Credentials::new(key.id.clone(), key.secret.expose().clone());
        Self { site: Arc::clone(site), agent: crate::reply::agent(), credentials }
    }

    /// Where the newest server has it.
    fn here(&self) -> rusty_s3::Bucket {
        let store = self.site.listeners().store.parse().unwrap();
        rusty_s3::Bucket::new(store, UrlStyle::Path, NAME, "us-east-1").unwrap()
    }

    pub fn create(&self) -> Reply<()> {
        let url = self.here().create_bucket(&self.credentials).sign(SIGNED_FOR);
        sort(&self.site, self.agent.put(url.as_str()).send_empty(), |_| Some(()))
    }

    pub fn put(&self, key: &str, body: &[u8]) -> Reply<()> {
        sort(&self.site, self.request_to_put(key).send(body), |_| Some(()))
    }

    /// A request that writes this key, with the class that the site gives it: signed, as all such headers must be.
    fn request_to_put(&self, key: &str) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        let (here, class) = (self.here(), self.site.class(key));
        let mut action = here.put_object(Some(&self.credentials), key);
        if let Some(class) = class {
            action.headers_mut().insert(CLASS, class);
        }
        let request = self.agent.put(action.sign(SIGNED_FOR).as_str());
        class.into_iter().fold(request, |request, class| request.header(CLASS, class))
    }

    /// The same, if `condition` holds: a header and its value.
    pub fn put_if(&self, key: &str, body: &[u8], (name, value): (&str, &str)) -> Reply<()> {
        sort(&self.site, self.request_to_put(key).header(name, value).send(body), |_| Some(()))
    }

    /// The object's entity tag, or that there is none.
    pub fn tag(&self, key: &str) -> Reply<Option<String>> {
        let url = self.here().head_object(Some(&self.credentials), key).sign(SIGNED_FOR);
        let outcome = self.agent.head(url.as_str()).call();
        let tag =
            outcome.as_ref().ok().and_then(|answer| answer.headers().get("etag")?.to_str().ok().map(str::to_owned));
        match sort(&self.site, outcome, |_| tag.map(Some)) {
            Reply::No(404, _) => Reply::Yes(None),
            other => other,
        }
    }

    pub fn delete(&self, key: &str) -> Reply<()> {
        let url = self.here().delete_object(Some(&self.credentials), key).sign(SIGNED_FOR);
        sort(&self.site, self.agent.delete(url.as_str()).call(), |_| Some(()))
    }

    /// The object, or that there is none.
    pub fn get(&self, key: &str) -> Reply<Option<Vec<u8>>> {
        let url = self.here().get_object(Some(&self.credentials), key).sign(SIGNED_FOR);
        match sort(&self.site, self.agent.get(url.as_str()).call(), |body| Some(Some(body))) {
            Reply::No(404, text) if text.contains("<Code>NoSuchKey</Code>") => Reply::Yes(None),
            other => other,
        }
    }

    /// Every key and size, page by page.
    pub fn list(&self, page: usize) -> Reply<Vec<(String, u64)>> {
        let here = self.here();
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut action = here.list_objects_v2(Some(&self.credentials));
            action.with_max_keys(page);
            if let Some(token) = &next {
                action.with_continuation_token(token.as_str());
            }
            let url = action.sign(SIGNED_FOR);
            let parsed = |body: Vec<u8>| ListObjectsV2::parse_response(std::str::from_utf8(&body).ok()?).ok();
            let listed = match sort(&self.site, self.agent.get(url.as_str()).call(), parsed) {
                Reply::Yes(listed) => listed,
                Reply::No(status, text) => return Reply::No(status, text),
                Reply::Unknown => return Reply::Unknown,
            };
            found.extend(listed.contents.into_iter().map(|one| (one.key, one.size.unwrap_or_default())));
            next = listed.next_continuation_token;
            if next.is_none() {
                return Reply::Yes(found);
            }
        }
    }

    pub fn create_upload(&self, key: &str) -> Reply<String> {
        let (here, class) = (self.here(), self.site.class(key));
        let mut action = here.create_multipart_upload(Some(&self.credentials), key);
        if let Some(class) = class {
            action.headers_mut().insert(CLASS, class);
        }
        let request = self.agent.post(action.sign(SIGNED_FOR).as_str());
        let request = class.into_iter().fold(request, |request, class| request.header(CLASS, class));
        let parsed = |body: Vec<u8>| CreateMultipartUpload::parse_response(std::str::from_utf8(&body).ok()?).ok();
        let reply = sort(&self.site, request.send_empty(), parsed);
        match reply {
            Reply::Yes(created) => Reply::Yes(created.upload_id().to_owned()),
            Reply::No(status, text) => Reply::No(status, text),
            Reply::Unknown => Reply::Unknown,
        }
    }

    /// The part's entity tag.
    pub fn upload_part(&self, key: &str, upload: &str, part: u16, body: &[u8]) -> Reply<String> {
        let url = self.here().upload_part(Some(&self.credentials), key, part, upload).sign(SIGNED_FOR);
        let outcome = self.agent.put(url.as_str()).send(body);
        let tag =
            outcome.as_ref().ok().and_then(|answer| answer.headers().get("etag")?.to_str().ok().map(str::to_owned));
        sort(&self.site, outcome, |_| tag)
    }

    pub fn complete(&self, key: &str, upload: &str, tags: &[String]) -> Reply<()> {
        let here = self.here();
        let tags = tags.iter().map(String::as_str);
        let action = here.complete_multipart_upload(Some(&self.credentials), key, upload, tags);
        let url = action.sign(SIGNED_FOR);
        let outcome = self.agent.post(url.as_str()).send(action.body());
        // A success is one only with its whole body: the status comes before the work.
        sort(&self.site, outcome, |body| {
            CompleteMultipartUploadResponse::parse(std::str::from_utf8(&body).ok()?).ok().map(drop)
        })
    }
}
