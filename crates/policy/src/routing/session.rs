//! The engine that the caller's session hashes to, within the same bound as `bounded_hash`; a caller that names no session
//! gets the engine with the fewest tokens. For agents and chats whose every turn repeats the one before.

use super::bounded_hash::by_key;
use super::{Candidate, Route, View};

pub(super) struct Session;

impl Route for Session {
    fn name(&self) -> &'static str {
        "session"
    }

    fn about(&self) -> &'static str {
        "the engine that the caller's session hashes to, else the one with the fewest tokens still to compute"
    }

    fn pick(&self, view: View<'_>) -> Option<Candidate> {
        match view.ask.session {
            Some(session) => by_key(view, session),
            None => view.least(|candidate| candidate.tokens),
        }
    }
}
