//! The cable list as text: CSV rows and labels.
//!
//! Invariant: one row for each cable or leg, RFC 4180 quoting, nothing allocated for each row.

use std::fmt;

use crate::cables::{Cable, CableKind, Error, Hall, Route, Summary, list};
use crate::design::Design;

/// Columns of the list.
pub const CSV_HEADER: &str = "number,label,segment,from_device,from_port,from_rack,from_u,to_device,to_port,to_rack,to_u,\
                              kind,length_m,links\n";

/// Writes the list of one network as CSV rows without the header, and sums it up. Ports are counted from 1, as on the
/// front of a switch; `5-6` is a leg that takes two. A label is `compute-000017`, of a split cable `compute-000017/2`.
/// # Errors
/// [`Error::TooFar`] of the first cable that no kind reaches; [`Error::Write`] where `out` fails.
pub fn write_csv<H: Hall, W: fmt::Write>(
    design: &Design,
    hall: &H,
    kinds: &[CableKind],
    route: &Route,
    out: &mut W,
) -> Result<Summary, Error> {
    let mut summary = Summary::default();
    let mut name = String::with_capacity(64);
    for cable in list(design, hall, kinds, route) {
        let cable = cable?;
        summary.add(&cable);
        write_number(out, cable.number, 1)?;
        out.write_char(',')?;
        name.clear();
        write_label(&design.name, &cable, &mut name)?;
        write_field(out, &name)?;
        out.write_char(',')?;
        out.write_str(cable.segment.name())?;
        for end in [&cable.from, &cable.to] {
            out.write_char(',')?;
            name.clear();
            hall.write_name(&design.name, end.port.device, &mut name)?;
            write_field(out, &name)?;
            out.write_char(',')?;
            let first = u64::from(hall.port(end.port));
            write_number(out, first + 1, 1)?;
            if cable.links > 1 {
                out.write_char('-')?;
                write_number(out, first + u64::from(cable.links), 1)?;
            }
            out.write_char(',')?;
            write_field(out, hall.rack_name(end.place.rack))?;
            out.write_char(',')?;
            write_number(out, end.place.u.into(), 1)?;
        }
        out.write_char(',')?;
        write_field(out, kinds.get(cable.kind).map_or("", |kind| kind.name.as_str()))?;
        write!(out, ",{},", cable.length.0)?;
        write_number(out, cable.links.into(), 1)?;
        out.write_char('\n')?;
    }
    Ok(summary)
}

/// Writes a cable's label: network and number, and the leg of a split cable.
/// # Errors
/// Those of `out`.
pub fn write_label<W: fmt::Write>(network: &str, cable: &Cable, out: &mut W) -> fmt::Result {
    out.write_str(network)?;
    out.write_char('-')?;
    write_number(out, cable.number, 6)?;
    if cable.legs > 1 {
        out.write_char('/')?;
        write_number(out, u64::from(cable.leg) + 1, 1)?;
    }
    Ok(())
}

/// A field, in quotes where it needs them (RFC 4180).
fn write_field<W: fmt::Write>(out: &mut W, text: &str) -> fmt::Result {
    if !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        return out.write_str(text);
    }
    out.write_char('"')?;
    for (place, part) in text.split('"').enumerate() {
        if place > 0 {
            out.write_str("\"\"")?;
        }
        out.write_str(part)?;
    }
    out.write_char('"')
}

/// A whole number with at least `width` digits (at most 20), in one piece and without a format string.
/// # Errors
/// Those of `out`.
pub fn write_number<W: fmt::Write>(out: &mut W, number: u64, width: usize) -> fmt::Result {
    // 2^64 has 20 digits.
    let mut digits = [b'0'; 20];
    let mut left = number;
    let mut first = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        if left == 0 && place < 20 - width.max(1) {
            break;
        }
        *digit = b'0' + u8::try_from(left % 10).unwrap_or(0);
        left /= 10;
        first = place;
    }
    out.write_str(std::str::from_utf8(digits.get(first..).unwrap_or(&[])).unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_does() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, 1_000_000, u64::from(u32::MAX)] {
            for width in [1, 4, 6] {
                let mut text = String::new();
                write_number(&mut text, number, width).unwrap();
                assert_eq!(text, format!("{number:0width$}"));
            }
        }
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        for (field, written) in
            [("a1", "a1"), ("a,1", "\"a,1\""), ("the \"big\" one", "\"the \"\"big\"\" one\""), ("", "")]
        {
            let mut text = String::new();
            write_field(&mut text, field).unwrap();
            assert_eq!(text, written);
        }
    }
}
