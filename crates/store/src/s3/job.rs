//! One request on its way through the front: who asks, for what, and what is known of it.

use std::sync::Arc;

use dh_core::Authenticate;
use dh_policy::access::{Acl, Caller, Context, Decision, Permission, PublicGrants, Rank, Request, Rules, decide};

use super::S3Options;
use super::bucket::{Bucket, Known, Ownership};
use super::call::Call;
use super::fault::Fault;
use super::payload::Payload;
use super::reply::iso;
use super::route::{Grantable, Op, Scope};
use super::visitor::Visitor;
use crate::crypto::{KeyRing, LocalKeyService};
use crate::identity::Accounts;
use crate::{Error, ObjectInfo, Store, Version, VersionId};

/// What all requests share.
pub(super) struct Front {
    pub(super) store: Store,
    pub(super) accounts: Accounts,
    pub(super) auth: Arc<dyn Authenticate>,
    pub(super) options: S3Options,
    pub(super) ring: Arc<KeyRing>,
    pub(super) buckets: Known,
    /// When the front began to serve.
    pub(super) started: std::time::Instant,
}

/// A request that was let in.
pub(super) struct Job {
    pub(super) front: Arc<Front>,
    pub(super) call: Call,
    pub(super) visitor: Visitor,
    pub(super) bucket: Option<Arc<Bucket>>,
    pub(super) payload: Payload,
    pub(super) op: Op,
    /// The object that a request about one is about.
    pub(super) object: Option<ObjectInfo>,
}

/// What is asked of an object or bucket, for a decision.
#[derive(Clone, Copy)]
pub(super) struct Access<'a> {
    pub(super) action: &'a str,
    pub(super) grantable: Grantable,
    pub(super) bucket: Option<&'a Bucket>,
    pub(super) key: Option<&'a str>,
    pub(super) object: Option<&'a ObjectInfo>,
}

/// The access list of an object.
pub(super) fn object_acl(object: &ObjectInfo, bucket: &Bucket) -> Acl {
    let stored = object.meta.acl.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok());
    stored.unwrap_or_else(|| Acl::private(object_owner(object, bucket)))
}

/// The account that an object belongs to.
pub(super) fn object_owner<'o>(object: &'o ObjectInfo, bucket: &'o Bucket) -> &'o str {
    match (bucket.ownership, &object.meta.owner) {
        (Ownership::Enforced, _) | (_, None) => &bucket.owner,
        (Ownership::Preferred | Ownership::Writer, Some(owner)) => owner,
    }
}

/// Request headers that conditions may ask for, under `s3:`.
const CONDITION_HEADERS: &[&str] = &[
    "x-amz-acl",
    "x-amz-grant-read",
    "x-amz-grant-write",
    "x-amz-grant-read-acp",
    "x-amz-grant-write-acp",
    "x-amz-grant-full-control",
    "x-amz-copy-source",
    "x-amz-metadata-directive",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-content-sha256",
    "x-amz-object-ownership",
    "if-match",
    "if-none-match",
];

impl Job {
    pub(super) fn store(&self) -> &Store {
        &self.front.store
    }

    pub(super) fn bucket(&self) -> Result<&Bucket, Fault> {
        self.bucket.as_deref().ok_or_else(|| Fault::new("InvalidBucketName", "the request names no bucket"))
    }

    pub(super) fn object(&self) -> Result<&ObjectInfo, Fault> {
        self.object.as_ref().ok_or_else(|| Fault::new("NoSuchKey", "The specified key does not exist."))
    }

    /// The version that the query names.
    pub(super) fn version(&self) -> Result<Version, Fault> {
        version(&self.call)
    }

    /// What conditions may ask about the request.
    pub(super) fn context(&self, object: Option<&ObjectInfo>) -> Context {
        let (call, mut context) = (&self.call, Context::default());
        context.add("aws:sourceip", call.peer.to_string());
        context.add("aws:currenttime", iso(call.now_ms));
        context.add("aws:epochtime", (call.now_ms / 1_000).to_string());
        context.add("aws:securetransport", "false");
        for (key, header) in [("aws:useragent", "user-agent"), ("aws:referer", "referer")] {
            if let Some(value) = call.header(header) {
                context.add(key, value);
            }
        }
        if let Some((version, how)) = self.visitor.version {
            context.add("s3:signatureversion", version);
            context.add("s3:authtype", how);
        }
        match &self.visitor.caller {
            Caller::User(user) => {
                context.add("aws:principalarn", &user.arn);
                context.add("aws:principalaccount", &user.account);
                context.add("aws:principaltype", "User");
                if let Some(row) = &self.visitor.user {
                    context.add("aws:userid", &row.id);
                    context.add("aws:username", &row.name);
                }
            }
            Caller::Anonymous | Caller::Service(_) => context.add("aws:principaltype", "Anonymous"),
        }
        for (name, value) in &call.query {
            match name.as_str() {
                "prefix" | "delimiter" | "max-keys" | "location" => context.add(&format!("s3:{name}"), value),
                "versionId" => context.add("s3:versionid", value),
                _other => {}
            }
        }
        for name in CONDITION_HEADERS {
            if let Some(value) = call.header(name) {
                context.add(&format!("s3:{name}"), value);
            }
        }
        for (name, header) in [
            ("s3:object-lock-mode", "x-amz-object-lock-mode"),
            ("s3:object-lock-retain-until-date", "x-amz-object-lock-retain-until-date"),
            ("s3:object-lock-legal-hold", "x-amz-object-lock-legal-hold"),
        ] {
            if let Some(value) = call.header(header) {
                context.add(name, value);
            }
        }
        if let Some(tagging) = call.header("x-amz-tagging") {
            for pair in tagging.split('&').filter(|pair| !pair.is_empty()) {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let text = |text: &str| super::call::decode(text, ' ').unwrap_or_default();
                context.add(&format!("s3:requestobjecttag/{}", text(name)), text(value));
                context.add("s3:requestobjecttagkeys", text(name));
            }
        }
        for (name, value) in object.map_or(&[][..], |object| &object.meta.tags) {
            context.add(&format!("s3:existingobjecttag/{name}"), value);
        }
        context
    }

    /// Whether the visitor may do this.
    pub(super) fn decide(&self, access: Access<'_>, context: &Context) -> Decision {
        let Access { action, grantable, bucket, key, object } = access;
        let resource = match (bucket, key) {
            (Some(bucket), Some(key)) => format!("arn:aws:s3:::{}/{key}", bucket.info.name),
            (Some(bucket), None) => format!("arn:aws:s3:::{}", bucket.info.name),
            (None, _) => format!("arn:aws:s3:::{}", self.call.bucket.as_deref().unwrap_or("*")),
        };
        let granted = bucket.is_some_and(|bucket| {
            let public = if bucket.block.ignore_acls { PublicGrants::Ignored } else { PublicGrants::Count };
            let enforced = bucket.ownership == Ownership::Enforced;
            match grantable {
                Grantable::Never => false,
                Grantable::Bucket(_) | Grantable::Object(_) if enforced => false,
                Grantable::Bucket(permission) => bucket.acl.allows(&self.visitor.caller, permission, public),
                Grantable::Object(permission) => object
                    .is_some_and(|object| object_acl(object, bucket).allows(&self.visitor.caller, permission, public)),
            }
        });
        // The account itself can always mend its bucket's policy, whatever that says.
        let mends = ["s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"].contains(&action)
            && matches!(&self.visitor.caller, Caller::User(user) if user.rank == Rank::Root
                && bucket.is_some_and(|bucket| bucket.owner == user.account));
        let owner = bucket.map(|bucket| match (grantable, object) {
            (Grantable::Object(_), Some(object)) => object_owner(object, bucket),
            (Grantable::Never | Grantable::Bucket(_) | Grantable::Object(_), _) => bucket.owner.as_str(),
        });
        let request = Request { caller: &self.visitor.caller, action, resource: &resource, context };
        decide(
            &request,
            &Rules {
                identity: &self.visitor.identity,
                session: &self.visitor.session,
                bucket: bucket.filter(|_bucket| !mends).and_then(|bucket| bucket.policy.as_ref()),
                owner,
                granted,
                block: bucket.map(|bucket| bucket.block).unwrap_or_default(),
            },
        )
    }

    /// Whether the visitor may also do `action` on the request's own key.
    pub(super) fn also(&self, action: &str, object: Option<&ObjectInfo>) -> bool {
        let access = Access {
            action,
            grantable: Grantable::Never,
            bucket: self.bucket.as_deref(),
            key: self.call.key.as_deref(),
            object,
        };
        self.decide(access, &self.context(object)) == Decision::Allow
    }

    /// Lets the request in, or not; finds the object if the operation is about one.
    pub(super) async fn admit(&mut self) -> Result<(), Fault> {
        if let (Some(bucket), Some(expected)) = (&self.bucket, self.call.header("x-amz-expected-bucket-owner"))
            && bucket.owner != expected
        {
            return Err(Fault::denied());
        }
        let op = self.op;
        let mut missing = None;
        if op.scope() == Scope::Object {
            match self.front.store.head_version(self.call.bucket()?, self.call.key()?, self.version()?).await {
                Ok(info) => self.object = Some(info),
                Err(error @ (Error::NoSuchKey { .. } | Error::NoSuchVersion { .. } | Error::DeleteMarker { .. })) => {
                    missing = Some(Fault::from(error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let action = match (op, self.call.has("versionId")) {
            (Op::GetObject | Op::HeadObject, true) => "s3:GetObjectVersion",
            (Op::GetObjectAttributes, true) => "s3:GetObjectVersionAttributes",
            (Op::GetObjectAcl, true) => "s3:GetObjectVersionAcl",
            (Op::PutObjectAcl, true) => "s3:PutObjectVersionAcl",
            (Op::GetObjectTagging, true) => "s3:GetObjectVersionTagging",
            (Op::PutObjectTagging, true) => "s3:PutObjectVersionTagging",
            (Op::DeleteObjectTagging, true) => "s3:DeleteObjectVersionTagging",
            (Op::DeleteObject, true) => "s3:DeleteObjectVersion",
            (op, _) => op.action(),
        };
        // What a list of many may do is decided for each of its keys.
        let anonymous_list = op == Op::ListBuckets && self.visitor.caller == Caller::Anonymous;
        if anonymous_list || matches!(op, Op::DeleteObjects | Op::PostForm) {
            return Ok(());
        }
        let access = Access {
            action,
            grantable: op.grantable(),
            bucket: self.bucket.as_deref(),
            key: self.call.key.as_deref(),
            object: self.object.as_ref(),
        };
        let context = self.context(self.object.as_ref());
        let decision = self.decide(access, &context);
        match (decision, missing) {
            (Decision::Allow, None) => Ok(()),
            (Decision::Allow, Some(missing)) => Err(missing),
            // Who may list the bucket may know that there is nothing; nobody else.
            (Decision::Implicit, Some(missing)) => {
                let list = Access {
                    action: "s3:ListBucket",
                    grantable: Grantable::Bucket(Permission::Read),
                    key: None,
                    ..access
                };
                let mut context = context;
                if let Some(key) = &self.call.key {
                    context.add("s3:prefix", key);
                }
                if self.decide(list, &context) == Decision::Allow { Err(missing) } else { Err(Fault::denied()) }
            }
            (Decision::Implicit | Decision::Explicit, _) => Err(Fault::denied()),
        }
    }
}

/// The version that a request names.
pub(super) fn version(call: &Call) -> Result<Version, Fault> {
    match call.ask("versionId") {
        None => Ok(Version::Latest),
        Some(text) => VersionId::parse(text).map(Version::Id).ok_or_else(|| {
            Fault::argument("Invalid version id specified")
                .with("ArgumentName", "versionId")
                .with("ArgumentValue", text)
        }),
    }
}

/// The built-in key service with these keys.
pub(super) fn local_service(ring: &Arc<KeyRing>, names: Vec<String>) -> LocalKeyService {
    LocalKeyService { ring: Arc::clone(ring), names }
}

impl Front {
    /// The bucket of this name.
    pub(super) async fn bucket(&self, name: &str) -> Result<Arc<Bucket>, Fault> {
        self.buckets.get(&self.store, name).await
    }

    /// The key service.
    pub(super) fn key_service(&self) -> LocalKeyService {
        local_service(&self.ring, self.options.kms_keys.clone())
    }
}
