//! How a persistent kernel is laid out over workgroups, subgroups and lanes: plain data, from what a device gives and a shape asks.
//!
//! A workgroup keeps the weights of `units` hidden units in registers, for all rows of its team. Its subgroups split the units
//! `across` ways and K `along` ways; inside a subgroup K runs over the lanes, four numbers at a time. K of forward is H for each
//! gate; K of backward is all gates' H, and a workgroup keeps its units' columns.

mod by_matrices;
mod several_turns;

use super::matrices;
use super::tile::{Matrices, Tile};
use crate::gpu::profile::{DeviceProfile, Vendor};

/// Most rows staged at a time.
const ROWS: u32 = 8;
/// Most values that a subgroup sums at a time.
const VALUES: u32 = 64;
/// Most values that it sums for one row, if there are workgroups enough for less: shuffles are what a step of one row costs.
const VALUES_OF_ROW: u32 = 16;
/// Words that a thread can ask for at a time.
const WORDS: u32 = 16;
/// Lanes along K where sums go through workgroup memory.
const LANES: u32 = 32;

/// What the formula needs to know of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::schedule) struct Profile {
    /// Lanes along K: the smallest subgroup that the device may choose.
    pub subgroup: u32,
    /// Whether sums go by shuffles, else through workgroup memory.
    pub shuffles: bool,
    /// Threads of a workgroup, and how many it may have where a thread would wait for more than 16 words.
    pub threads: u32,
    pub most_threads: u32,
    /// Most of them with those that finish a turn beside: 0 where these are not to be, for registers are short or nobody measured it.
    pub most_with_finishers: u32,
    /// Workgroup memory.
    pub bytes: u32,
    /// f32 weights that a thread of 256 can keep, and those together with the sums that it makes.
    pub weights: u32,
    pub registers: u32,
    /// Most rows at a time, forward and backward.
    pub rows: [u32; 2],
    /// vec4f of weights that a thread of a step kernel asks for at the start of a step, at most.
    pub quads_of_step: u32,
    /// Whether kernels of strategies resident and stepwise read the weights that do not stay in a loop, a few at a time: compilers
    /// that ask for all of them early run out of registers.
    pub loops: bool,
    /// As in `Tile`.
    pub rolled: bool,
    /// Whether f16 may be multiplied by cooperative matrices.
    pub matrices: Matrices,
}

/// Registers by vendor, as their compilers say: `docs/strategies.md` has the table.
#[derive(Debug, Clone, Copy)]
struct Registers {
    weights: u32,
    all: u32,
    rows: [u32; 2],
    threads: u32,
    most_threads: u32,
    quads_of_step: u32,
    loops: bool,
    rolled: bool,
    finishers: bool,
}

impl Registers {
    fn of(vendor: Vendor) -> Self {
        // Of an H200, whose compiler does not spill.
        let most = Self {
            weights: 128,
            all: 200,
            rows: [ROWS; 2],
            threads: 256,
            most_threads: 512,
            quads_of_step: 64,
            loops: false,
            rolled: false,
            finishers: false,
        };
        let few = Self { weights: 64, all: 96, most_threads: 256, quads_of_step: 8, loops: true, ..most };
        match vendor {
            Vendor::Nvidia => Self { finishers: true, ..most },
            Vendor::Amd => Self { rows: [4, 2], ..most },
            Vendor::Intel => Self { rows: [2, 1], ..few },
            Vendor::Apple => Self { rows: [1, 1], ..few },
            Vendor::Qualcomm | Vendor::Other => Self { weights: 32, all: 48, rows: [1, 1], ..few },
            Vendor::Software => {
                Self { weights: 2048, all: 2304, rows: [4, 4], threads: 1024, most_threads: 1024, rolled: true, ..most }
            }
        }
    }
}

impl Profile {
    /// `subgroup` is the smallest that the device may choose, 0 where it has none; `threads` the most of a workgroup.
    pub fn new(vendor: Vendor, subgroup: u32, threads: u32, bytes: u32) -> Self {
        let Registers { weights, all, rows, threads: wanted, most_threads, quads_of_step, loops, rolled, finishers } =
            Registers::of(vendor);
        let shuffles = subgroup >= 8;
        let threads = 1 << threads.max(1).ilog2();
        Self {
            subgroup: if shuffles { subgroup } else { LANES },
            shuffles,
            threads: threads.min(wanted),
            most_threads: threads.min(most_threads),
            most_with_finishers: if finishers { threads } else { 0 },
            bytes,
            weights,
            registers: all,
            rows,
            quads_of_step,
            loops,
            rolled,
            matrices: Matrices::Off,
        }
    }
}

impl From<DeviceProfile> for Profile {
    fn from(device: DeviceProfile) -> Self {
        let subgroup = if device.shuffles { device.subgroup_min } else { 0 };
        let matrices = if device.matrices { Matrices::On } else { Matrices::Off };
        Self { matrices, ..Self::new(device.vendor, subgroup, device.threads, device.memory) }
    }
}

/// What a recurrence asks of the layout, in one direction of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub hidden: u32,
    pub batch: u32,
    pub directions: u32,
    pub gates: u32,
    /// All gates for a cell of one phase.
    pub first_phase_gates: u32,
    pub backward: bool,
    /// Whether weights and h are f16.
    pub halves: bool,
}

impl Work {
    /// Gates of each phase from the first one's; the second has none in a cell of one phase.
    fn phases(&self) -> [(u32, u32); 2] {
        [(0, self.first_phase_gates), (self.first_phase_gates, self.gates - self.first_phase_gates)]
    }

    /// Length of the vector that a phase of `gates` gates multiplies.
    fn k(&self, gates: u32) -> u32 {
        if self.backward { gates * self.hidden } else { self.hidden }
    }

    /// The same by matrices, which backward want gates in pairs.
    fn k_by_matrices(&self) -> u32 {
        self.k(self.gates.next_multiple_of(2))
    }

    /// Values of one unit and row.
    fn values(&self, gates: u32) -> u32 {
        if gates == 0 || self.backward { gates.min(1) } else { gates.next_power_of_two() }
    }
}

/// A product of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Part {
    /// Its gates; none if the cell has no second phase.
    pub first: u32,
    pub gates: u32,
    /// Values of a unit and row, a power of two: the gates, padded. 1 backward.
    pub padded: u32,
    /// How often four numbers of K lie in a lane.
    pub chunks: u32,
}

/// How teams, members, subgroups and lanes share the work. Every count of a workgroup is a power of two but `chunks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub threads: u32,
    pub subgroup: u32,
    pub shuffles: bool,
    /// Hidden units of a member; the last ones of the last member may lie beyond H.
    pub units: u32,
    /// Subgroup s takes the s % across th share of the units and the s / across th part of K.
    pub across: u32,
    pub along: u32,
    /// Rows that are staged at a time.
    pub rows: u32,
    pub members: u32,
    pub teams: u32,
    /// Rows of a team; the last one's may lie beyond B.
    pub team_rows: u32,
    pub phases: [Part; 2],
    pub backward: bool,
    pub rolled: bool,
    /// Whether the exchange goes by fours, without atomics.
    pub vectors: bool,
    pub matrices: Matrices,
    /// Threads beside the others, which finish what these have multiplied while these are at the next turn: backward, where a step has
    /// several. One subgroup's cell takes as long as everyone's products. Then subgroups share K alone, and the operand is in registers.
    pub finishers: u32,
}

/// What a device lacks for any layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    pub what: &'static str,
    pub needed: u64,
    pub has: u64,
}

impl Layout {
    /// Teams before members: members just enough to hold the weights, then as many teams as `workgroups` allow.
    pub fn new(profile: Profile, workgroups: u32, work: Work) -> Result<Self, Shortage> {
        let share = (workgroups / work.directions).max(1);
        if let Some(layout) = Self::by_matrices(profile, share, work) {
            return Ok(layout);
        }
        Ok(Self::of_one_row(profile, share, work)?.with_teams(profile, share, work).with_finishers(profile))
    }

    /// The same with so many units of a member, if they fit.
    pub fn with_units(profile: Profile, workgroups: u32, work: Work, units: u32) -> Option<Self> {
        let share = (workgroups / work.directions).max(1);
        let layout = Self::shaped(profile, profile.threads, units, work);
        let fits = units > 0 && layout.shortage(profile).is_none() && layout.members <= share;
        fits.then(|| layout.with_teams(profile, share, work).with_finishers(profile))
    }

    /// The same with half the rows at a time.
    pub fn with_fewer_rows(self, profile: Profile) -> Option<Self> {
        let layout = Self { rows: self.rows / 2, ..self };
        (self.rows > 1 && layout.shortage(profile).is_none()).then(|| layout.with_finishers(profile))
    }

    /// As many teams as a direction's `share` of the workgroups allows.
    fn with_teams(self, profile: Profile, share: u32, work: Work) -> Self {
        let teams = (share / self.members).clamp(1, work.batch);
        let team_rows = work.batch.div_ceil(teams);
        let layout = Self { teams: work.batch.div_ceil(team_rows), team_rows, ..self }.with_rows(profile, work);
        let other = layout.with_k_over_all(profile, work).or_else(|| layout.with_more_threads(profile, work));
        other.unwrap_or(layout)
    }

    /// As many units as a workgroup can hold, with one row at a time.
    fn of_one_row(profile: Profile, share: u32, work: Work) -> Result<Self, Shortage> {
        let mut shortage = None;
        for most_values in [VALUES_OF_ROW.max(profile.subgroup / 2), VALUES] {
            let mut units = work.hidden.next_power_of_two();
            while units > 0 {
                let layout = Self::shaped(profile, profile.threads, units, work);
                match layout.shortage(profile) {
                    Some(found) => shortage = Some(found),
                    None if layout.values() > most_values => {}
                    None if layout.members <= share => return Ok(layout),
                    None => {
                        let needed = u64::from(layout.members) * u64::from(work.directions);
                        let has = u64::from(share) * u64::from(work.directions);
                        shortage = Some(Shortage { what: "workgroups side by side", needed, has });
                        break;
                    }
                }
                units /= 2;
            }
        }
        Err(shortage.expect("one unit is tried"))
    }

    /// One row of one team, with K cut as little as the subgroups allow (forward), or for about half of them (backward).
    fn shaped(profile: Profile, threads: u32, units: u32, work: Work) -> Self {
        let lanes = profile.subgroup;
        let longest = work.phases().map(|(_, gates)| work.k(gates)).into_iter().max().unwrap_or(0);
        // A small layer has no work for all of them.
        let mut subgroups = (threads / lanes).max(1);
        while subgroups > units && subgroups / units * 4 * lanes > longest.next_multiple_of(4 * lanes) {
            subgroups /= 2;
        }
        let least = (subgroups / units.min(subgroups)).max(1);
        let along = if work.backward { Self::along_backward(subgroups, least, lanes, work) } else { least };
        let phases = work.phases().map(|(first, gates)| Part {
            first,
            gates,
            padded: work.values(gates),
            chunks: work.k(gates).div_ceil(4 * lanes * along),
        });
        Self {
            threads: subgroups * lanes,
            subgroup: lanes,
            shuffles: profile.shuffles,
            units,
            across: subgroups / along,
            along,
            rows: 1,
            members: work.hidden.div_ceil(units),
            teams: 1,
            team_rows: 1,
            phases,
            backward: work.backward,
            rolled: profile.rolled,
            vectors: false,
            matrices: Matrices::Off,
            finishers: 0,
        }
    }

    /// Half of the subgroups, from 4 to 16, or the nearest below that does not pad K much.
    fn along_backward(subgroups: u32, least: u32, lanes: u32, work: Work) -> u32 {
        let padding = |along: u32| {
            let padded = |gates| work.k(gates).next_multiple_of(4 * lanes * along) - work.k(gates);
            work.phases().map(|(_, gates)| padded(gates)).iter().sum::<u32>()
        };
        let wanted = (subgroups / 2).clamp(4, 16).min(subgroups).max(least);
        let halves = std::iter::successors(Some(wanted), |along| Some(along / 2)).take_while(|&along| along >= least);
        let little = |along: &u32| 4 * padding(*along) <= work.k(work.gates);
        halves.clone().find(little).unwrap_or_else(|| halves.min_by_key(|&along| padding(along)).unwrap_or(wanted))
    }

    /// As many rows at a time as there are and fit.
    fn with_rows(self, profile: Profile, work: Work) -> Self {
        let most = profile.rows[usize::from(work.backward)].min(ROWS);
        let mut rows = self.team_rows.next_power_of_two().min(most);
        while rows > 1 && (Self { rows, ..self }).shortage(profile).is_some() {
            rows /= 2;
        }
        let layout = Self { rows, ..self };
        layout.with_cut_k(profile).unwrap_or(layout)
    }

    /// Forward with several rows: subgroups that share the units' rows read the staged operand half as often.
    fn with_cut_k(self, profile: Profile) -> Option<Self> {
        let even = self.phases.iter().all(|part| part.chunks.is_multiple_of(2));
        if self.backward || self.rows < 4 || !even || self.across == 1 {
            return None;
        }
        let phases = self.phases.map(|part| Part { chunks: part.chunks / 2, ..part });
        let layout = Self { along: self.along * 2, across: self.across / 2, phases, ..self };
        layout.shortage(profile).is_none().then_some(layout)
    }

    /// More threads where one would have to ask twice for its words in each of several turns. In one turn an H200 was 3 % slower with them.
    fn with_more_threads(self, profile: Profile, work: Work) -> Option<Self> {
        let threads = self.threads * 2;
        if self.words() <= WORDS || threads > profile.most_threads || self.one_turn() {
            return None;
        }
        let Self { teams, team_rows, .. } = self;
        let layout = Self { teams, team_rows, ..Self::shaped(profile, threads, self.units, work) };
        let layout = layout.shortage(profile).is_none().then(|| layout.with_rows(profile, work))?;
        (layout.threads == threads && layout.rows == self.rows).then_some(layout)
    }

    /// Everything that must hold inside a workgroup, as what is needed of what there is.
    fn demands(&self, profile: Profile) -> [(&'static str, u64, u64); 6] {
        let of_thread = |registers: u32| u64::from(registers) * 256 / u64::from(self.threads.max(256));
        let weights = u64::from(self.weights());
        let operand = if self.in_registers() { self.rows * 4 * self.phases[0].chunks } else { 0 };
        [
            ("weights of a thread in registers", weights, of_thread(profile.weights)),
            ("registers of a thread", weights + u64::from(self.values() + operand), of_thread(profile.registers)),
            ("values that a subgroup sums", self.values().into(), VALUES.into()),
            ("bytes of workgroup memory", self.bytes(), profile.bytes.into()),
            ("threads that finish a step", self.finishing(), self.threads.into()),
            ("units of a workgroup's subgroups", self.across.into(), self.units.into()),
        ]
    }

    fn shortage(&self, profile: Profile) -> Option<Shortage> {
        let lacking = self.demands(profile).into_iter().find(|&(_, needed, has)| needed > has);
        lacking.map(|(what, needed, has)| Shortage { what, needed, has })
    }

    /// A phase's product. `in_turn` as in `DeviceProfile`.
    pub fn tile(&self, phase: usize, in_turn: bool) -> Tile {
        Tile {
            threads: self.threads,
            lanes: self.subgroup,
            shuffles: self.shuffles,
            k_parts: self.along,
            units: self.units,
            rows: self.rows,
            quads: self.phases[phase].chunks,
            rolled: self.rolled,
            in_turn,
            matrices: self.matrices,
        }
    }

    /// Whether there is neither padding along K nor a row that is missing in some turn, so that no word of the exchange is.
    pub fn is_filled_by(&self, hidden: u32, batch: u32) -> bool {
        let is_whole = |(phase, part): (usize, &Part)| part.gates == 0 || self.k_padded(phase) == self.k(phase, hidden);
        let rows = self.teams * self.team_rows == batch && self.team_rows.is_multiple_of(self.rows);
        rows && self.phases.iter().enumerate().all(is_whole)
    }

    /// Whether a step takes all rows of a team at once.
    pub fn one_turn(&self) -> bool {
        self.team_rows <= self.rows
    }

    /// Weights that a thread keeps.
    pub fn weights(&self) -> u32 {
        if self.matrices != Matrices::Off {
            return matrices::weights(&self.tile(0, false), self.gates_along_m());
        }
        let of_unit = |part: &Part| if self.backward { part.gates.min(1) } else { part.gates };
        self.phases.iter().map(|part| self.units_of_subgroup() * of_unit(part) * part.chunks * 4).sum()
    }

    /// By matrices: backward the gates lie along K.
    pub fn gates_along_m(&self) -> u32 {
        if self.backward { 1 } else { self.phases[0].gates }
    }

    /// Length of the vector that a phase multiplies, without padding.
    pub fn k(&self, phase: usize, hidden: u32) -> u32 {
        let gates = self.phases[phase].gates;
        match (self.backward, self.matrices) {
            (false, _) => hidden,
            (true, Matrices::Off) => gates * hidden,
            (true, _) => gates.next_multiple_of(2) * hidden,
        }
    }

    pub fn units_of_subgroup(&self) -> u32 {
        self.units.div_ceil(self.across)
    }

    /// Values that a subgroup sums at a time, in the phase that has most.
    pub fn values(&self) -> u32 {
        self.units_of_subgroup() * self.rows * self.widest()
    }

    fn widest(&self) -> u32 {
        self.phases[0].padded.max(self.phases[1].padded)
    }

    /// Length of K of one part of it, and of all: 0 in a phase that is not there.
    pub fn k_of_part(&self, phase: usize) -> u32 {
        self.tile(phase, false).k_each()
    }

    pub fn k_padded(&self, phase: usize) -> u32 {
        self.along * self.k_of_part(phase)
    }

    fn longest(&self) -> u32 {
        self.k_padded(0).max(self.k_padded(1))
    }

    /// Words that a thread waits for at a time.
    pub fn words(&self) -> u32 {
        (self.rows * self.longest()).div_ceil(self.threads)
    }

    /// Threads that have a value to finish, where sums meet in workgroup memory.
    fn finishing(&self) -> u64 {
        if self.along == 1 && !self.backward {
            0
        } else {
            u64::from(self.units) * u64::from(self.rows) * u64::from(self.widest())
        }
    }

    /// Whether sums meet in workgroup memory, which takes a second barrier.
    pub fn has_parts(&self) -> bool {
        self.along > 1 || !self.shuffles || self.backward || self.matrices != Matrices::Off
    }

    /// Workgroup memory: the staged operand, twice where one barrier a step is all, and the sums that meet there: one of each part
    /// of K, or without shuffles one of each thread.
    pub fn bytes(&self) -> u64 {
        if self.matrices != Matrices::Off {
            return matrices::bytes(&self.tile(0, false), self.gates_along_m());
        }
        let staged = if self.in_registers() { 0 } else { u64::from(self.rows) * u64::from(self.longest()) };
        let lanes = if self.shuffles { 1 } else { self.subgroup };
        let sums = u64::from(self.along * lanes) * self.finishing();
        let stages = if self.has_parts() { 1 } else { 2 };
        // Those of a turn are finished while those of the next are made.
        let sums = if self.finishers > 0 { 2 * sums } else { sums };
        4 * (stages * staged + sums) + 64
    }

    /// Workgroups of a dispatch.
    pub fn groups(&self, directions: u32) -> u32 {
        self.members * self.teams * directions
    }
}

#[cfg(test)]
mod tests;
