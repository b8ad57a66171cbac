//! Fences around data: a key says what its caller's data is at least, a request may say more, and engines that are not cleared
//! for it are not asked.

use dh_core::DataClass;
use http::HeaderMap;

use crate::Error;
use crate::engines::Model;
use crate::error::shown;
use crate::gateway::Shared;

/// What a request may say of its data. It only ever narrows what the key says.
const HEADER: &str = "x-datahall-data-class";

/// What the data of a request is.
pub(crate) fn of(shared: &Shared, caller: &str, headers: &HeaderMap) -> Result<DataClass, Error> {
    let of_key = shared.auth.grant(caller).and_then(|grant| grant.data_class).unwrap_or_default();
    let mut said = DataClass::Public;
    for value in headers.get_all(HEADER) {
        let word = value.to_str().unwrap_or_default().trim();
        said = said.max(DataClass::parse(word).ok_or_else(|| {
            let known = DataClass::ALL.map(|(word, _)| word).join(", ");
            Error::BadHeader(format!("`{HEADER}` is `{}`, expected one of {known}", shown(word, 40)))
        })?);
    }
    Ok(of_key.max(said))
}

/// Refuses a request whose data none of `model`'s engines may read.
pub(crate) fn check(model: &Model, class: DataClass) -> Result<(), Error> {
    let open = class == DataClass::Public
        || model.engines.is_empty()
        || model.engines.iter().any(|engine| engine.facts.data_class >= class);
    if open { Ok(()) } else { Err(Error::Fenced { model: model.name.to_string(), class: class.word() }) }
}
