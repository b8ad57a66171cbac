//! What clients of a server that is killed know after a call, and their connections.

use std::time::Duration;

use crate::site::Site;

/// How long a server that runs may take to answer. One that is killed breaks the connection at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);

/// A client's own connections.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(3)))
        .timeout_global(Some(ANSWER_TIMEOUT))
        .build()
        .new_agent()
}

/// What a caller knows after a call.
#[derive(Debug)]
pub enum Reply<T> {
    /// The server said so.
    Yes(T),
    /// The server refused.
    No(u16, String),
    /// No answer, or not a whole one: it may have happened or not.
    Unknown,
}

/// Sorts what came back; `read` takes the body of a success.
pub fn sort<T>(
    site: &Site,
    outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    read: impl FnOnce(Vec<u8>) -> Option<T>,
) -> Reply<T> {
    let mut answer = match outcome {
        Ok(answer) => answer,
        Err(ureq::Error::Timeout(which)) => {
            site.violation(format!("a request hung ({which})"));
            return Reply::Unknown;
        }
        Err(_) => return Reply::Unknown,
    };
    let status = answer.status().as_u16();
    let Ok(body) = answer.body_mut().with_config().limit(64 << 20).read_to_vec() else { return Reply::Unknown };
    match status {
        200..=299 => read(body).map_or(Reply::Unknown, Reply::Yes),
        // While ours is dead its port may be another program's, which does not know our key.
        401 | 403 => Reply::Unknown,
        503 if site.part_may_be_away() => Reply::Unknown,
        _ => Reply::No(status, String::from_utf8_lossy(&body).into_owned()),
    }
}

/// What a client does before it tries again.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
