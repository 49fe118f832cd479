//! What one workgroup of an unrolled kernel makes of a step: plain data, from what a device gives and a shape asks.
//!
//! Threads are taken `lanes` at a time, a group. Group `i` makes the `each` units from `i % across · each` on, over part
//! `i / across` of K. K runs over the lanes: forward by fours, backward by single numbers, of four units at a time. So both read
//! the weights as they are stored, by fours.

use crate::cell::ShaderCell;
use crate::schedule::layer::{LayerSizes, Phase, phases};
use crate::schedule::persistent::layout::Profile;

/// vec4f of weights that the text of a kernel spells out for one thread.
const MOST_QUADS: u32 = 256;
/// The same that a turn of a loop reads again.
const QUADS_OF_TURN: u32 = 8;
/// Most sums of a thread.
const MOST_SUMS: u32 = 64;
/// Clocks of a barrier and what waits for it.
const BARRIER: u32 = 60;
/// Workgroups of a step kernel: past it a workgroup makes more units.
const WORKGROUPS_OF_STEP: u32 = 256;
/// Most units and rows of a workgroup of a step kernel.
const UNITS_OF_STEP: u32 = 16;
const ROWS_OF_STEP: u32 = 8;

/// What a recurrence asks, in one direction of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub hidden: u32,
    pub batch: u32,
    pub directions: u32,
    /// Gates of each phase, from `first` on; the second has none in a cell of one.
    pub gates: [u32; 2],
    pub first: u32,
    /// Gates of the cell.
    pub all_gates: u32,
    pub backward: bool,
}

impl Work {
    pub fn new(cell: &ShaderCell, sizes: &LayerSizes, backward: bool) -> Self {
        let LayerSizes { hidden, batch, directions, .. } = *sizes;
        let phases = phases(cell);
        let gates = [phases[0].count, phases.get(1).map_or(0, |phase| phase.count)];
        Self { hidden, batch, directions, gates, first: 0, all_gates: cell.gates.len() as u32, backward }
    }

    /// One phase alone.
    pub fn of_phase(cell: &ShaderCell, sizes: &LayerSizes, phase: Phase, backward: bool) -> Self {
        Self { gates: [phase.count, 0], first: phase.first, ..Self::new(cell, sizes, backward) }
    }

    pub fn two_phases(&self) -> bool {
        self.gates[1] > 0
    }

    /// Length of the vector that a phase multiplies.
    pub fn k(&self, phase: usize) -> u32 {
        match (self.backward, self.gates[phase]) {
            (_, 0) => 0,
            (true, gates) => gates * self.hidden,
            (false, _) => self.hidden,
        }
    }

    /// Sums of one unit and row in a phase.
    pub fn values(&self, phase: usize) -> u32 {
        if self.backward { self.gates[phase].min(1) } else { self.gates[phase] }
    }

    fn most_values(&self) -> u32 {
        self.values(0).max(self.values(1))
    }

    /// Numbers of K that lie in one lane side by side.
    pub fn wide(&self) -> u32 {
        if self.backward { 1 } else { 4 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub lanes: u32,
    /// Whether lanes sum by shuffles, else through workgroup memory.
    pub shuffles: bool,
    /// Groups side by side over units, and over K.
    pub across: u32,
    pub along: u32,
    /// Units of a group: a power of two, backward at least 4.
    pub each: u32,
    /// Batch rows, a power of two.
    pub rows: u32,
    /// How often a lane finds numbers of K, in each phase.
    pub blocks: [u32; 2],
    /// Quads of weights that stay in registers; the others are read again at every step.
    pub held: u32,
    /// Whether K fills the blocks, so that no weight need be masked.
    pub exact: bool,
    /// Whether weights can be read by fours.
    pub quads: bool,
    /// Whether those that do not stay are read in a loop.
    pub loops: bool,
}

impl Share {
    fn new(profile: &Profile, work: &Work, [lanes, across, along]: [u32; 3], each: u32, rows: u32) -> Self {
        let blocks = [0, 1].map(|phase| work.k(phase).div_ceil(work.wide() * lanes * along));
        let exact = (0..2).all(|phase| work.k(phase) == blocks[phase] * work.wide() * lanes * along);
        let shuffles = profile.shuffles || lanes == 1;
        let quads = work.hidden.is_multiple_of(4);
        Self { lanes, shuffles, across, along, each, rows, blocks, held: 0, exact, quads, loops: false }
    }

    pub fn threads(&self) -> u32 {
        self.lanes * self.across * self.along
    }

    pub fn units(&self) -> u32 {
        self.across * self.each
    }

    /// Units and rows of a group.
    pub fn pairs(&self) -> u32 {
        self.each * self.rows
    }

    /// Length of K in a phase, padded.
    pub fn k(&self, work: &Work, phase: usize) -> u32 {
        self.blocks[phase] * work.wide() * self.lanes * self.along
    }

    /// Whether sums meet in workgroup memory, which takes a second barrier.
    pub fn has_parts(&self) -> bool {
        self.along > 1 || !self.shuffles
    }

    /// Sums that meet there for one result.
    pub fn parts(&self) -> u32 {
        if self.shuffles { self.along } else { self.along * self.lanes }
    }

    /// Units and rows that a thread finishes.
    pub fn slots(&self) -> u32 {
        if self.has_parts() { (self.units() * self.rows).div_ceil(self.threads()) } else { (self.pairs() / self.lanes).max(1) }
    }

    /// Whether a phase's operand is staged twice, so that one barrier a step is enough.
    pub fn is_double(&self, work: &Work) -> bool {
        !work.two_phases() && !self.has_parts()
    }

    /// Floats of workgroup memory: the operands of both phases, and sums.
    pub fn staged(&self, work: &Work, resident: bool) -> u32 {
        let both = self.rows * (self.k(work, 0) + if self.holds_second(work) { self.k(work, 1) } else { 0 });
        if resident && self.is_double(work) { 2 * both } else { both }
    }

    fn holds_second(&self, work: &Work) -> bool {
        work.two_phases()
    }

    pub fn sums(&self, work: &Work) -> u32 {
        if self.has_parts() { self.parts() * work.most_values() * self.units() * self.rows } else { 0 }
    }

    /// Quads of weights of a thread, in all phases.
    pub fn weights(&self, work: &Work) -> u32 {
        let of = |phase: usize| self.blocks[phase] * self.of_block(work, phase);
        of(0) + of(1)
    }

    /// Quads of weights of a thread in one block of a phase.
    pub fn of_block(&self, work: &Work, phase: usize) -> u32 {
        if work.backward { self.each / 4 } else { self.each * work.gates[phase] }
    }

    /// Quads of a phase that stay: those of the first phase come first.
    fn held_of_phase(&self, work: &Work, phase: usize) -> u32 {
        let before = if phase == 0 { 0 } else { self.blocks[0] * self.of_block(work, 0) };
        self.held.saturating_sub(before).min(self.blocks[phase] * self.of_block(work, phase))
    }

    /// Quads of one block of a phase that stay.
    pub fn held_of_block(&self, work: &Work, phase: usize, block: u32) -> u32 {
        let of_block = self.of_block(work, phase);
        self.held_of_phase(work, phase).saturating_sub(block * of_block).min(of_block)
    }

    /// Blocks of a phase of which all quads stay.
    pub fn held_blocks(&self, work: &Work, phase: usize) -> u32 {
        self.held_of_phase(work, phase) / self.of_block(work, phase).max(1)
    }

    /// Blocks of a phase that one turn of the loop over the others reads again; 0 where there is no loop.
    pub fn blocks_of_turn(&self, work: &Work, phase: usize) -> u32 {
        let left = self.blocks[phase] - self.held_blocks(work, phase);
        let most = (QUADS_OF_TURN / self.of_block(work, phase).max(1)).max(1);
        if self.loops && left > 0 { (1..=most).rev().find(|turn| left.is_multiple_of(*turn)).unwrap_or(1) } else { 0 }
    }

    fn fits(&self, profile: &Profile, work: &Work, resident: bool) -> bool {
        let most_quads = match (resident, self.loops) {
            (true, _) => MOST_QUADS,
            (false, true) => u32::MAX,
            (false, false) => profile.quads_of_step,
        };
        self.threads() <= profile.threads
            && 4 * (self.staged(work, resident) + self.sums(work)) <= profile.bytes
            && self.weights(work) <= most_quads
            && self.pairs() * work.most_values() <= MOST_SUMS
    }

    /// Clocks of a multiprocessor for one step, roughly. Four subgroups of 32 multiply side by side, each 32 numbers a clock; what
    /// goes through memory or is shuffled they do in turn, 32 numbers a clock; a second barrier takes `BARRIER`.
    fn cost(&self, work: &Work) -> u32 {
        let subgroups = self.threads().div_ceil(32);
        let multiply = 4 * self.rows * self.weights(work) * subgroups.div_ceil(4);
        let reads = (self.blocks[0] + self.blocks[1]) * self.rows * work.wide();
        let again = 4 * (self.weights(work) - self.held);
        let mut shuffles = 0;
        if self.shuffles {
            let mut pairs = self.pairs();
            for _ in 0..self.lanes.ilog2() {
                pairs = (pairs / 2).max(1);
                shuffles += pairs * (work.values(0) + work.values(1));
            }
        }
        let parts = 2 * self.sums(work) / self.threads().max(1);
        let barrier = if self.has_parts() { BARRIER } else { 0 };
        multiply + subgroups * (reads + again + shuffles + parts) + barrier
    }

    /// All units of some rows, if the text of one thread can spell out its weights: the fewest clocks.
    pub fn resident(profile: &Profile, work: &Work) -> Option<Self> {
        let least = if work.backward { 4 } else { 1 };
        let mut best: Option<Self> = None;
        for lanes in (0..6).map(|n| 1 << n).filter(|&lanes| lanes <= profile.subgroup.max(1)) {
            for each in [1, 2, 4, 8, 16, 32].into_iter().filter(|&each| each >= least) {
                let across = work.hidden.div_ceil(each);
                for along in [1, 2, 4] {
                    let share = Self::new(profile, work, [lanes, across, along], each, 1).holding(profile, work);
                    let better = |best: &Self| share.cost(work) < best.cost(work);
                    if share.fits(profile, work, true) && best.as_ref().is_none_or(better) {
                        best = Some(share);
                    }
                }
            }
        }
        best
    }

    /// Keeps as many weights as there are registers for.
    fn holding(self, profile: &Profile, work: &Work) -> Self {
        // Besides sums: biases, the input's parts of two steps, states and addresses.
        let others = self.pairs() * work.most_values() + 3 * work.all_gates + 8;
        let held = (profile.registers.saturating_sub(others) / 4).min(self.weights(work));
        if held == self.weights(work) || !profile.loops {
            return Self { held, ..self };
        }
        // Room for those that the loop reads.
        self.looping(work, held.saturating_sub(QUADS_OF_TURN))
    }

    /// Keeps whole blocks, of so many quads at most, and reads the others in a loop.
    fn looping(self, work: &Work, most: u32) -> Self {
        let share = Self { held: most.min(self.weights(work)), loops: true, ..self };
        let whole = [0, 1].map(|phase| share.held_blocks(work, phase) * share.of_block(work, phase));
        Self { held: whole[0] + whole[1], ..share }
    }

    /// A slice of the units and rows of one step.
    pub fn step(profile: &Profile, work: &Work) -> Option<Self> {
        let rows = work.batch.next_power_of_two().min(ROWS_OF_STEP).min(profile.rows[usize::from(work.backward)].max(1));
        let rows = std::iter::successors(Some(rows), |rows| (*rows > 1).then_some(rows / 2));
        let of_rows = |loops| rows.clone().find_map(|rows| Self::step_of_rows(profile, work, rows, loops));
        of_rows(false).or_else(|| if profile.loops { of_rows(true) } else { None })
    }

    /// With all weights asked for at the start of the step, or some of them in a loop.
    fn step_of_rows(profile: &Profile, work: &Work, rows: u32, loops: bool) -> Option<Self> {
        let slices = work.batch.div_ceil(rows) * work.directions;
        let mut units = if work.backward { 8 } else { 4 };
        while units < UNITS_OF_STEP && work.hidden.div_ceil(units) * slices > WORKGROUPS_OF_STEP {
            units *= 2;
        }
        let longest = work.k(0).max(work.k(1)).div_ceil(work.wide());
        let lanes = profile.subgroup.min(32).min(longest.next_power_of_two());
        let lanes = if profile.shuffles { lanes } else { lanes.min(8) };
        while units >= if work.backward { 4 } else { 1 } {
            let each = if work.backward { 4 } else { 1 };
            let across = units / each;
            let mut along = 1;
            while lanes * across * along * 2 <= profile.threads && longest > lanes * along * 2 {
                along *= 2;
            }
            let share = Self::new(profile, work, [lanes, across, along], each, rows);
            let share =
                if loops { share.looping(work, profile.quads_of_step) } else { Self { held: share.weights(work), ..share } };
            if share.fits(profile, work, false) {
                return Some(share);
            }
            units /= 2;
        }
        None
    }

    /// The grid of a kernel that makes `units` units a workgroup.
    pub fn groups(&self, work: &Work) -> [u64; 3] {
        [work.hidden.div_ceil(self.units()).into(), work.batch.div_ceil(self.rows).into(), work.directions.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::profile::Vendor;

    fn profiles() -> [Profile; 4] {
        [
            Profile::new(Vendor::Nvidia, 32, 1024, 48 << 10),
            Profile::new(Vendor::Intel, 8, 1024, 64 << 10),
            Profile::new(Vendor::Apple, 32, 1024, 32 << 10),
            Profile::new(Vendor::Other, 0, 256, 16 << 10),
        ]
    }

    fn work(hidden: u32, batch: u32, gates: [u32; 2], backward: bool) -> Work {
        Work { hidden, batch, directions: 1, gates, first: 0, all_gates: gates[0] + gates[1], backward }
    }

    /// All of H and of K is there, within the device's limits.
    fn check(profile: &Profile, work: &Work, share: &Share, resident: bool) {
        let told = format!("{profile:?} {work:?} {share:?}");
        assert!(share.threads() <= 256 && share.threads() > 0, "{told}");
        assert!(4 * (share.staged(work, resident) + share.sums(work)) <= profile.bytes, "{told}");
        assert!(share.lanes.is_power_of_two() && share.each.is_power_of_two() && share.rows.is_power_of_two(), "{told}");
        assert!(!profile.shuffles || share.lanes <= profile.subgroup, "{told}");
        assert!(share.held <= share.weights(work), "{told}");
        for phase in [0, 1] {
            assert!(share.k(work, phase) >= work.k(phase), "{told}");
            assert!(!share.exact || share.k(work, phase) == work.k(phase), "{told}");
        }
        if resident {
            assert!(share.units() >= work.hidden && share.groups(work)[0] == 1, "{told}");
        }
        // Every unit and row is finished by one thread.
        let places = if share.has_parts() { share.threads() } else { share.pairs().min(share.lanes) * share.across };
        assert!(places * share.slots() >= share.units() * share.rows, "{told}");
    }

    #[test]
    fn shares_are_whole_and_fit() {
        for profile in profiles() {
            for hidden in [1, 3, 17, 64, 100, 128, 256, 512, 1000, 1024, 4096] {
                for batch in [1, 3, 16, 64] {
                    for gates in [[1, 0], [3, 0], [4, 0], [2, 1]] {
                        for backward in [false, true] {
                            let work = work(hidden, batch, gates, backward);
                            let (resident, step) = (Share::resident(&profile, &work), Share::step(&profile, &work));
                            assert!(resident.is_some() || hidden > 128, "{profile:?} {work:?}");
                            resident.iter().for_each(|share| check(&profile, &work, share, true));
                            if gates[1] == 0 {
                                assert!(step.is_some() || hidden > 512, "{profile:?} {work:?}");
                                step.iter().for_each(|share| check(&profile, &work, share, false));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Vendors with few registers keep whole blocks, and a loop's turns share out the rest.
    #[test]
    fn loops_end_where_the_blocks_do() {
        let [_, intel, apple, other] = profiles();
        let mut loops = 0;
        for profile in [intel, apple, other] {
            for (hidden, gates, backward) in
                [(128, [4, 0], false), (128, [4, 0], true), (128, [2, 1], false), (128, [2, 1], true), (200, [1, 0], false)]
            {
                let work = work(hidden, 1, gates, backward);
                let Some(share) = Share::resident(&profile, &work) else { continue };
                let mut held = 0;
                for phase in [0, 1] {
                    let (blocks, turn) = (share.held_blocks(&work, phase), share.blocks_of_turn(&work, phase));
                    let left = share.blocks[phase] - blocks;
                    assert!(if turn > 0 { left.is_multiple_of(turn) } else { left == 0 }, "{share:?}");
                    assert!(turn * share.of_block(&work, phase) <= QUADS_OF_TURN.max(share.of_block(&work, phase)), "{share:?}");
                    held += blocks * share.of_block(&work, phase);
                    loops += turn.min(1);
                }
                assert_eq!(held, share.held, "{share:?}");
            }
        }
        assert!(loops > 8, "{loops}");
    }

    /// What the study found best on an H200, and what keeps an LSTM of 128 in registers there.
    #[test]
    fn shares_of_an_h200() {
        let [h200, ..] = profiles();
        for (hidden, batch, threads, units, rows) in [(256, 1, 128, 4, 1), (1024, 1, 256, 4, 1), (512, 16, 256, 4, 8)] {
            let share = Share::step(&h200, &work(hidden, batch, [4, 0], false)).unwrap();
            assert_eq!((share.threads(), share.units(), share.rows), (threads, units, rows), "{share:?}");
        }
        for backward in [false, true] {
            let work = work(128, 1, [4, 0], backward);
            let share = Share::resident(&h200, &work).unwrap();
            assert!(!share.has_parts() && share.weights(&work) == 64 && share.held >= 40, "{share:?}");
        }
    }

    /// What an H200 was measured with: lanes, groups across and along, units and rows of a group, blocks, quads that stay.
    #[test]
    fn measured_shares_stay_as_they_are() {
        let [h200, ..] = profiles();
        let numbers = |share: Share| {
            assert!(!share.loops);
            let Share { lanes, across, along, each, rows, blocks, held, .. } = share;
            [lanes, across, along, each, rows, blocks[0], held]
        };
        let resident = |hidden, backward| Share::resident(&h200, &work(hidden, 1, [4, 0], backward)).map(numbers);
        let step = |hidden, batch, backward| Share::step(&h200, &work(hidden, batch, [4, 0], backward)).map(numbers);
        let found = [
            resident(64, false),
            resident(64, true),
            resident(128, false),
            resident(128, true),
            resident(256, false),
            step(256, 1, false),
            step(1024, 1, false),
            step(512, 16, false),
            step(512, 16, true),
        ];
        let expected = [
            [4, 32, 1, 2, 1, 4, 32],
            [16, 8, 1, 8, 1, 16, 32],
            [4, 64, 1, 2, 1, 8, 43],
            [16, 16, 1, 8, 1, 32, 43],
            [4, 64, 1, 4, 1, 16, 41],
            [32, 4, 1, 1, 1, 2, 8],
            [32, 4, 2, 1, 1, 4, 16],
            [32, 4, 2, 1, 8, 2, 8],
            [32, 2, 4, 4, 4, 16, 16],
        ];
        assert_eq!(found, expected.map(Some));
    }
}
