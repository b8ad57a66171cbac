//! Answers that are read to their end before they go out, so that their head can say what they cost.
//!
//! Only those that are no streams, have a bill, and are short enough; others are relayed as they come.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;

use crate::Error;
use crate::bill;
use crate::breaker::Pass;
use crate::link::AnswerBody;
use crate::metrics::Trouble;
use crate::relay::{self, Begun};
use crate::upstream::Answer;
use crate::usage::UsageFinder;

/// A whole answer in memory: four times the longest that engines write by default.
pub(crate) const BYTES_MAX: u64 = 1 << 20;

pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The answer for the caller, its bill in its head.
pub(crate) async fn relay(answer: Answer, begun: Begun) -> Result<axum::response::Response, Error> {
    use http_body::Body as _;
    let length = answer.response.body().size_hint().exact();
    let fits = length.is_some_and(|length| length <= BYTES_MAX);
    if answer.response.status() != StatusCode::OK || !is_json(answer.response.headers()) || !fits {
        return Ok(relay::relay(answer, begun));
    }
    let (answer, bytes) = read(answer, &begun).await?;
    let mut usage = UsageFinder::new();
    usage.push(&bytes);
    let bill = usage.found().map(|usage| bill::bill(&answer.engine, &begun, usage)).unwrap_or_default();
    let mut response = relay::relay(answer, begun);
    bill.head(response.headers_mut());
    Ok(response)
}

/// Reads an answer to its end; it can be read once more from memory.
pub(crate) async fn read(answer: Answer, begun: &Begun) -> Result<(Answer, Bytes), Error> {
    let Answer { response, engine, load, belief, as_chat } = answer;
    let (parts, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    let rest = async {
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame.map_err(|_| ())?.into_data() else { continue };
            bytes.extend_from_slice(&piece);
            if u64::try_from(bytes.len()).is_ok_and(|length| length > BYTES_MAX) {
                return Err(());
            }
        }
        Ok(())
    };
    if !matches!(tokio::time::timeout(begun.chunk_gap, rest).await, Ok(Ok(()))) {
        engine.metrics.trouble(Trouble::MidStream);
        engine.state.breaker().failed(Pass::Normal, begun.clock.now());
        return Err(Error::Unreachable { model: begun.model.name.to_string(), tried: 1 });
    }
    let bytes = bytes.freeze();
    let response = http::Response::from_parts(parts, AnswerBody::whole(bytes.clone()));
    Ok((Answer { response, engine, load, belief, as_chat }, bytes))
}
