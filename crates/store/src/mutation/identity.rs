//! Changes of the identities' table: compare and set.

use super::{Effects, Moment};
use crate::Error;
use crate::config::IDENTITY_BYTES_MAX;
use crate::identities::{Expect, Identity};
use crate::index::codec::{decode, encode};
use crate::index::meta::{TableId, Tables};

pub(super) fn put(
    tables: &mut Tables<'_>,
    name: &str,
    bytes: Option<Vec<u8>>,
    expect: Expect,
    moment: Moment,
) -> Result<Effects, Error> {
    let row_key = name.as_bytes();
    let have = tables.get(TableId::Identities, row_key)?;
    let have = have.map(|value| Ok::<u64, Error>(decode::<u64>(row_key, &value)?.0)).transpose()?;
    let holds = match expect {
        Expect::Anything => true,
        Expect::Absent => have.is_none(),
        Expect::Revision(revision) => have == Some(revision),
    };
    if !holds {
        return Err(Error::Precondition("revision"));
    }
    let Some(bytes) = bytes else {
        tables.remove(TableId::Identities, row_key)?;
        return Ok(Effects::default());
    };
    if bytes.len() > IDENTITY_BYTES_MAX {
        return Err(Error::TooLarge(IDENTITY_BYTES_MAX as u64));
    }
    tables.put(TableId::Identities, row_key, &encode(row_key, &moment.sequence, &bytes))?;
    let identity = Identity { revision: moment.sequence, bytes };
    Ok(Effects { identity: Some(identity), ..Effects::default() })
}
