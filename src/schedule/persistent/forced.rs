//! Layouts other than the formula's, and those of another vendor's devices: for tests, and for `tidegate bench` to compare.

use std::str::FromStr;

use super::layout::Layout;
use crate::error::{Error, Limit, Result};
use crate::gpu::profile::{DeviceProfile, Vendor};

/// What is forced; the rest is the formula's. Its text is such as `vendor=nvidia workgroups=128 units=8 back-units=16`: what begins
/// with `back-` is backward's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Forced {
    pub vendor: Option<Vendor>,
    pub workgroups: Option<u32>,
    directions: [Numbers; 2],
}

/// 0 where the formula's stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Numbers {
    threads: u32,
    units: u32,
    along: u32,
    rows: u32,
    teams: u32,
}

const KEYS: &str = "vendor, workgroups, and with or without `back-` threads, units, along, rows, teams";

fn unknown(kind: &'static str, name: &str, known: &str) -> Error {
    Error::UnknownName { kind, name: name.into(), known: known.into() }
}

impl FromStr for Forced {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut forced = Self::default();
        for word in text.split_whitespace() {
            let (key, value) = word.split_once('=').ok_or_else(|| unknown("layout", word, KEYS))?;
            if key == "vendor" {
                forced.vendor = Some(Vendor::by_name(value)?);
                continue;
            }
            let number = value.parse().ok().filter(|&number| number > 0);
            let number: u32 = number.ok_or_else(|| unknown("number in a layout", value, "1.."))?;
            if key == "workgroups" {
                forced.workgroups = Some(number);
                continue;
            }
            let (numbers, key) = match key.strip_prefix("back-") {
                Some(key) => (&mut forced.directions[1], key),
                None => (&mut forced.directions[0], key),
            };
            *match key {
                "threads" => &mut numbers.threads,
                "units" => &mut numbers.units,
                "along" => &mut numbers.along,
                "rows" => &mut numbers.rows,
                "teams" => &mut numbers.teams,
                _ => return Err(unknown("layout", key, KEYS)),
            } = number;
        }
        Ok(forced)
    }
}

impl Forced {
    pub(in crate::schedule) fn device(self, device: DeviceProfile) -> DeviceProfile {
        DeviceProfile { vendor: self.vendor.unwrap_or(device.vendor), ..device }
    }

    /// A layout with these numbers for H and B, refused where they contradict each other.
    pub(super) fn layout(self, layout: Layout, hidden: u32, batch: u32, device: DeviceProfile) -> Result<Layout> {
        let numbers = self.directions[usize::from(layout.backward)];
        if numbers == Numbers::default() {
            return Ok(layout);
        }
        let or = |forced: u32, formula: u32| if forced > 0 { forced } else { formula };
        let (units, along, threads) =
            (or(numbers.units, layout.units), or(numbers.along, layout.along), or(numbers.threads, layout.threads));
        let team_rows = batch.div_ceil(or(numbers.teams, layout.teams).min(batch));
        let mut phases = layout.phases;
        for part in &mut phases {
            let k = if layout.backward { part.gates * hidden } else { hidden };
            part.chunks = k.div_ceil(4 * layout.subgroup * along);
        }
        let forced = Layout {
            threads,
            units,
            along,
            across: (threads / layout.subgroup / along).max(1),
            rows: or(numbers.rows, layout.rows),
            members: hidden.div_ceil(units),
            teams: batch.div_ceil(team_rows),
            team_rows,
            phases,
            ..layout
        };
        let limits = [
            ("max_compute_invocations_per_workgroup", u64::from(threads), u64::from(device.threads)),
            ("max_compute_workgroup_storage_size", forced.bytes(), device.memory.into()),
        ];
        for (limit, needed, actual) in limits {
            if needed > actual {
                return Err(Error::Limit { limit: Limit::Device(limit, String::new()), needed, actual });
            }
        }
        match forced.tile(0, device.in_turn).fault() {
            Some(fault) => Err(unknown("layout", &format!("{numbers:?}"), fault)),
            None => Ok(forced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_what_is_wrong() {
        let forced: Forced = "vendor=amd workgroups=128 units=8 back-units=16".parse().unwrap();
        assert_eq!((forced.vendor, forced.workgroups), (Some(Vendor::Amd), Some(128)));
        assert_eq!(forced.directions.map(|numbers| numbers.units), [8, 16]);
        for (text, part) in [("vendor=intl", "intl"), ("units=0", "0"), ("unit=3", "unit"), ("units", "units")] {
            let error = text.parse::<Forced>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
