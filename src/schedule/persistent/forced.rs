//! Layouts other than the formula's, and those of another vendor's devices: for tests, and for `tidegate bench` to compare.

use std::fmt;
use std::str::FromStr;

use super::layout::{Layout, Profile};
use super::tile::{Matrices, SIZE};
use crate::error::{Error, Limit, Result};
use crate::gpu::profile::{DeviceProfile, Vendor};

/// What is forced; the rest is the formula's. Its text is such as `vendor=nvidia workgroups=128 units=8 back-units=16`: what begins
/// with `back-` is backward's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Forced {
    pub vendor: Option<Vendor>,
    pub workgroups: Option<u32>,
    /// Whether the exchange goes by fours, where H is a multiple of four.
    pub vectors: bool,
    /// Whether products of f16 go by cooperative matrices, else as the device and the formula say; and backward, if not as forward.
    pub(super) matrices: Option<Matrices>,
    pub(super) back_matrices: Option<Matrices>,
    pub(super) directions: [Numbers; 2],
}

/// 0 where the formula's stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Numbers {
    threads: u32,
    units: u32,
    along: u32,
    rows: u32,
    teams: u32,
}

const KEYS: &str = "vendor, workgroups, exchange, and with or without `back-` matrices, threads, units, along, rows, teams";

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
            if key == "exchange" {
                let known = [("words", false), ("vectors", true)].into_iter().find(|(name, _)| *name == value);
                forced.vectors = known.ok_or_else(|| unknown("exchange", value, "words, vectors"))?.1;
                continue;
            }
            if key == "matrices" || key == "back-matrices" {
                let known = Matrices::by_name(value).ok_or_else(|| unknown("matrices", value, Matrices::NAMES))?;
                *(if key == "matrices" { &mut forced.matrices } else { &mut forced.back_matrices }) = Some(known);
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

impl Numbers {
    fn named(self) -> [(&'static str, u32); 5] {
        let Self { threads, units, along, rows, teams } = self;
        [("threads", threads), ("units", units), ("along", along), ("rows", rows), ("teams", teams)]
    }
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.vendor.map(|vendor| format!("vendor={}", vendor.name())));
        words.extend(self.workgroups.map(|count| format!("workgroups={count}")));
        words.extend(self.vectors.then(|| "exchange=vectors".to_string()));
        words.extend(self.matrices.map(|matrices| format!("matrices={}", matrices.name())));
        words.extend(self.back_matrices.map(|matrices| format!("back-matrices={}", matrices.name())));
        for (numbers, prefix) in self.directions.iter().zip(["", "back-"]) {
            let forced = numbers.named().into_iter().filter(|(_, number)| *number > 0);
            words.extend(forced.map(|(key, number)| format!("{prefix}{key}={number}")));
        }
        f.write_str(&words.join(" "))
    }
}

impl TryFrom<String> for Forced {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Forced> for String {
    fn from(forced: Forced) -> Self {
        forced.to_string()
    }
}

impl Forced {
    #[cfg(test)]
    pub const NONE: Self = Self {
        vendor: None,
        workgroups: None,
        vectors: false,
        matrices: None,
        back_matrices: None,
        directions: [Numbers { threads: 0, units: 0, along: 0, rows: 0, teams: 0 }; 2],
    };

    /// Everything of these layouts, one of a direction of time.
    pub(super) fn to(layouts: &[Layout]) -> Self {
        let mut forced = Self::default();
        for &Layout { threads, units, along, rows, teams, backward, .. } in layouts {
            forced.directions[usize::from(backward)] = Numbers { threads, units, along, rows, teams };
        }
        forced
    }

    pub(in crate::schedule) fn device(self, device: DeviceProfile) -> DeviceProfile {
        DeviceProfile { vendor: self.vendor.unwrap_or(device.vendor), ..device }
    }

    /// What a tuning tries beside a layout by matrices: backward without them, if it goes backward, by fours where it may; and none.
    pub(super) fn around_matrices(backward: bool, by_fours: bool) -> impl Iterator<Item = Self> {
        let off = Some(Matrices::Off);
        let scalar_backward = Self { back_matrices: off, vectors: by_fours, ..Self::default() };
        backward.then_some(scalar_backward).into_iter().chain([Self { matrices: off, ..Self::default() }])
    }

    fn matrices(self, backward: bool) -> Option<Matrices> {
        self.back_matrices.filter(|_| backward).or(self.matrices)
    }

    pub(super) fn profile(self, device: DeviceProfile, backward: bool) -> Profile {
        let profile = Profile::from(device);
        Profile { matrices: self.matrices(backward).unwrap_or(profile.matrices), ..profile }
    }

    /// A layout with these numbers for H and B, refused where they contradict each other.
    pub(super) fn layout(self, layout: Layout, hidden: u32, batch: u32, device: DeviceProfile) -> Result<Layout> {
        if self.vectors && !device.decorations {
            let limit = Limit::Feature("coherent and volatile buffers for `exchange=vectors`");
            return Err(Error::Limit { limit, needed: 1, actual: 0 });
        }
        if self.matrices(layout.backward).is_some_and(|matrices| matrices != Matrices::Off) && layout.matrices == Matrices::Off {
            let what = "cooperative matrices, which want f16, one phase, workgroups and memory enough, for `matrices=on`";
            return Err(Error::Limit { limit: Limit::Feature(what), needed: 1, actual: 0 });
        }
        // What matrices exchange are pairs.
        let vectors = self.vectors && hidden.is_multiple_of(4) && layout.matrices == Matrices::Off;
        let layout = Layout { vectors, ..layout };
        let numbers = self.directions[usize::from(layout.backward)];
        if numbers == Numbers::default() {
            // The exchange counts its words otherwise.
            return Ok(layout.with_finishers(self.profile(device, layout.backward)));
        }
        let or = |forced: u32, formula: u32| if forced > 0 { forced } else { formula };
        let (units, along, threads) =
            (or(numbers.units, layout.units), or(numbers.along, layout.along), or(numbers.threads, layout.threads));
        let team_rows = batch.div_ceil(or(numbers.teams, layout.teams).min(batch));
        let mut phases = layout.phases;
        for (phase, part) in phases.iter_mut().enumerate() {
            let block = if layout.matrices == Matrices::Off { 4 * layout.subgroup } else { SIZE };
            part.chunks = layout.k(phase, hidden).div_ceil(block * along);
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
        if let Some(fault) = forced.tile(0, device.in_turn).fault() {
            return Err(unknown("layout", &format!("{numbers:?}"), fault));
        }
        let forced = forced.with_finishers(self.profile(device, layout.backward));
        let limits = [
            ("max_compute_invocations_per_workgroup", u64::from(threads + forced.finishers), u64::from(device.threads)),
            ("max_compute_workgroup_storage_size", forced.bytes(), device.memory.into()),
        ];
        for (limit, needed, actual) in limits {
            if needed > actual {
                return Err(Error::Limit { limit: Limit::Device(limit, String::new()), needed, actual });
            }
        }
        if forced.backward && forced.finishers == 0 && forced.units * forced.rows > threads {
            let fault = "backward a thread finishes each unit and row";
            return Err(unknown("layout", &format!("{numbers:?}"), fault));
        }
        Ok(forced)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Work;
    use super::*;

    /// An LSTM of 512 units and 16 rows on an H200, of f16 by matrices or of f32.
    fn laid_out(text: &str, matrices: bool, backward: bool) -> Result<Layout> {
        let [gpu, ..] = DeviceProfile::samples();
        let device = DeviceProfile { matrices, ..gpu };
        let forced: Forced = text.parse().unwrap();
        let work = Work { hidden: 512, batch: 16, directions: 1, gates: 4, first_phase_gates: 4, backward, halves: matrices };
        let layout = Layout::new(forced.profile(device, backward), device.workgroups, work).expect("a layout");
        forced.layout(layout, 512, 16, device)
    }

    /// Whatever numbers are forced, they make a layout or an error.
    #[test]
    fn no_numbers_panic() {
        let mut made = 0;
        for matrices in [false, true] {
            for text in
                ["threads=64 along=8", "threads=16", "along=64", "rows=3", "units=5 along=2", "rows=16 teams=1", "units=1024"]
            {
                for prefix in ["", "back-"] {
                    let text: Vec<_> = text.split(' ').map(|word| format!("{prefix}{word}")).collect();
                    let text = text.join(" ");
                    made += [false, true].into_iter().filter(|&backward| laid_out(&text, matrices, backward).is_ok()).count();
                }
            }
        }
        assert!(made > 0);
    }

    #[test]
    fn text_names_what_is_wrong() {
        let forced: Forced = "vendor=amd workgroups=128 units=8 back-units=16".parse().unwrap();
        assert_eq!((forced.vendor, forced.workgroups), (Some(Vendor::Amd), Some(128)));
        assert_eq!(forced.directions.map(|numbers| numbers.units), [8, 16]);
        for text in [
            "vendor=amd workgroups=128 units=8 back-units=16",
            "exchange=vectors matrices=off threads=256 back-rows=2",
            "matrices=on back-matrices=off",
            "",
        ] {
            assert_eq!(text.parse::<Forced>().unwrap().to_string(), text);
        }
        for (text, part) in [
            ("vendor=intl", "intl"),
            ("exchange=fours", "fours"),
            ("matrices=no", "off, on"),
            ("units=0", "0"),
            ("unit=3", "unit"),
            ("units", "units"),
        ] {
            let error = text.parse::<Forced>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    /// The layouts that `cooperative_matrices_give_right_numbers` forces fit a device with 48 KiB of workgroup memory; what does not is an
    /// error, not a panic.
    #[test]
    fn layouts_by_matrices_fit_an_h200() {
        let made = |text: &str, backward| laid_out(text, true, backward);
        for text in ["", "units=16 along=2", "units=16 along=4 threads=512 rows=4 teams=4 back-teams=2 back-rows=8"] {
            for backward in [false, true] {
                let layout = made(&format!("matrices=on {text}"), backward).unwrap_or_else(|e| panic!("{text}: {e}"));
                assert_eq!(layout.matrices, Matrices::On, "{text}");
            }
        }
        for text in
            ["units=16 along=8 rows=4", "rows=32", "rows=2", "threads=32 along=4", "back-rows=16 back-threads=128 back-along=4"]
        {
            assert!(made(&format!("matrices=on {text}"), text.starts_with("back")).is_err(), "{text}");
        }
    }
}
