//! Slices into which an accelerator can be cut by its hardware (MIG), as one text.
//!
//! `1g.10gb = 1 @ 0123456` is a profile with one part of the processors whose one slot of memory begins at any of the slots 0
//! to 6; `3g.40gb = 3 of 4 @ 04` has three parts and four slots. Profiles are parted by `;`. The largest has all parts.
//! Invariant: written as it was read. Source of the form: NVIDIA's Multi-Instance GPU guide.

use serde::{Deserialize, Serialize};

use super::fact::{Fact, quoted};
use crate::codes::Code;
use crate::section::{Section, Spot};

/// Slots of memory of an accelerator.
const SLOTS: u8 = 8;

/// One profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceProfile {
    /// Its name: `1g.10gb`.
    pub name: String,
    /// Parts of the processors.
    pub parts: u8,
    /// Slots of memory.
    pub slots: u8,
    /// Slots from which it may begin, a bit each.
    pub starts: u8,
}

/// All profiles of an accelerator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slices(Vec<SliceProfile>);

impl Slices {
    /// The profiles, as written.
    pub fn profiles(&self) -> &[SliceProfile] {
        &self.0
    }

    /// The profile called `name`.
    pub fn profile(&self, name: &str) -> Option<&SliceProfile> {
        self.0.iter().find(|profile| profile.name == name)
    }

    /// Thousandths of the accelerator's processors that a profile has, rounded down.
    pub fn milli(&self, profile: &SliceProfile) -> u16 {
        let all = self.0.iter().map(|profile| profile.parts).max().unwrap_or(1).max(1);
        u16::from(profile.parts) * 1000 / u16::from(all)
    }

    fn parse(text: &str) -> Option<Self> {
        let profiles: Option<Vec<SliceProfile>> = text.split(';').map(profile).collect();
        profiles.filter(|profiles| !profiles.is_empty()).map(Self)
    }
}

fn profile(text: &str) -> Option<SliceProfile> {
    let (name, rest) = text.split_once('=')?;
    let (size, starts) = rest.split_once('@')?;
    let (parts, slots) = size.split_once(" of ").unwrap_or((size, size));
    let number = |text: &str| text.trim().parse::<u8>().ok().filter(|number| (1..=SLOTS).contains(number));
    let (parts, slots) = (number(parts)?, number(slots)?);
    let starts = starts.trim().chars().try_fold(0_u8, |starts, digit| {
        let start = u8::try_from(digit.to_digit(10)?).ok()?;
        (start + slots <= SLOTS).then(|| starts | 1 << start)
    })?;
    let name = name.trim().to_owned();
    (starts != 0 && !name.is_empty()).then_some(SliceProfile { name, parts, slots, starts })
}

impl std::fmt::Display for Slices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, profile) in self.0.iter().enumerate() {
            let starts: String =
                (0..SLOTS).filter(|start| profile.starts >> start & 1 == 1).map(|start| start.to_string()).collect();
            let SliceProfile { name, parts, slots, .. } = profile;
            let gap = if at == 0 { "" } else { "; " };
            if parts == slots {
                write!(f, "{gap}{name} = {parts} @ {starts}")?;
            } else {
                write!(f, "{gap}{name} = {parts} of {slots} @ {starts}")?;
            }
        }
        Ok(())
    }
}

impl Fact for Slices {
    fn read<'a>(section: &Section<'a>, key: &'a str) -> Option<Spot<Self>> {
        let found = section.text(key)?;
        let Some(value) = Self::parse(&found.value) else {
            let message = format!(
                "`{key}` holds no slices, expected some as in \"1g.10gb = 1 @ 0123456; 3g.40gb = 3 of 4 @ 04\""
            );
            section.problems.add(Code::OUT_OF_RANGE, &found.at, message, None);
            return None;
        };
        Some(Spot { value, at: found.at })
    }

    fn shown(&self) -> String {
        self.to_string()
    }

    fn toml(&self) -> String {
        quoted(&self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_written_as_they_were_read() {
        let text = "1g.10gb = 1 @ 0123456; 3g.40gb = 3 of 4 @ 04; 7g.80gb = 7 of 8 @ 0";
        let slices = Slices::parse(text).unwrap();
        assert_eq!(slices.to_string(), text);
        let half = slices.profile("3g.40gb").unwrap();
        assert_eq!((half.slots, half.starts, slices.milli(half)), (4, 0b0001_0001, 428));
        for wrong in ["", "x", "a = 1", "a = 9 @ 0", "a = 4 @ 5", "= 1 @ 0", "a = 1 @ x", "a = 1 @ "] {
            assert!(Slices::parse(wrong).is_none(), "{wrong}");
        }
    }
}
