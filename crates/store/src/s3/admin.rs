//! `/-/`: what is asked of the server and not of S3. No bucket can have that name.
//!
//! `GET /-/health` is open to everybody, unless strangers are refused altogether, and says only that the server answers.
//! All else is for the root users of accounts and the hall's own keys, signed like any request: `GET /-/status`,
//! `GET /-/drives`, `GET /-/metrics` (open to everybody if the options say so),
//! `POST /-/scrub?bytes-max=&bytes-per-second=&cursor=`, `POST /-/heal?drive=`.

use std::sync::Arc;

use dh_policy::access::{Caller, Rank};
use http::{Method, Response};

use super::call::Call;
use super::fault::Fault;
use super::job::Front;
use super::reply::{Answer, Body, Reply, full};
use super::sign::{claim, sha256_hex};
use super::visitor::{Asked, verify};
use super::{Metrics, Strangers};
use crate::operate::ScrubStep;

/// The bytes of a step if nothing else is asked, and at most.
const STEP_BYTES: u64 = 64 << 20;
const STEP_BYTES_MAX: u64 = 4 << 30;

/// Whether a request is for the server.
pub(super) fn is_admin(call: &Call) -> bool {
    call.bucket.as_deref() == Some("-") && call.path.starts_with("/-/")
}

fn json(value: &impl serde::Serialize) -> Answer {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Fault::new("InternalError", format!("the answer cannot be written: {error}")))?;
    Ok(Reply::ok().with("content-type", "application/json").body(full(bytes)))
}

fn text(text: impl Into<String>) -> Response<Body> {
    Reply::ok().with("content-type", "text/plain; version=0.0.4").body(full(text.into()))
}

/// Root users only.
fn admit(front: &Front, call: &Call) -> Result<(), Fault> {
    let claim = claim(call)?;
    // These requests have no body; a presigned one says that it does not matter.
    let said = call.header("x-amz-content-sha256").map_or_else(|| "UNSIGNED-PAYLOAD".to_owned(), ToOwned::to_owned);
    if said != "UNSIGNED-PAYLOAD" && said != sha256_hex(b"") {
        return Err(Fault::argument("these requests have no body"));
    }
    let (visitor, _chunks) = verify(&front.accounts, front.auth.as_ref(), call, &claim, &said, Asked::Objects)?;
    match &visitor.caller {
        Caller::User(user) if user.rank == Rank::Root && visitor.session.is_empty() => Ok(()),
        Caller::User(_) | Caller::Anonymous | Caller::Service(_) => Err(Fault::denied()),
    }
}

pub(super) async fn serve(front: Arc<Front>, call: Call) -> Answer {
    let what = call.key.clone().unwrap_or_default();
    let health = (&call.method, what.as_str()) == (&Method::GET, "health");
    if health && front.options.strangers == Strangers::ByPolicy {
        return Ok(text("ok\n"));
    }
    if !(what == "metrics" && front.options.metrics == Metrics::Everybody) {
        admit(&front, &call)?;
    }
    match (&call.method, what.as_str()) {
        (&Method::GET, "health") => Ok(text("ok\n")),
        (&Method::GET, "status") => json(&front.store.status(front.started.elapsed().as_secs())),
        (&Method::GET, "drives") => json(&front.store.drive_reports()),
        (&Method::GET, "metrics") => Ok(text(front.store.metrics())),
        (&Method::POST, "scrub") => {
            let step = ScrubStep {
                bytes_max: call.ask_number("bytes-max")?.unwrap_or(STEP_BYTES).min(STEP_BYTES_MAX),
                bytes_per_second: call.ask_number("bytes-per-second")?,
                cursor: call.ask("cursor").map(ToOwned::to_owned),
                remote: call.ask("remote").is_some(),
            };
            json(&front.store.scrub_step(step).await?)
        }
        (&Method::POST, "heal") => {
            let drive = call.ask_number("drive")?.ok_or_else(|| Fault::argument("`drive` is needed"))?;
            json(&front.store.heal(drive).await?)
        }
        _ => Err(Fault::new("MethodNotAllowed", "the server has no such resource, or not with this method")),
    }
}
