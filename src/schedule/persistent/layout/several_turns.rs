//! Backward where a step takes the team's rows in several turns: see the kernel's text.

use super::{Layout, Matrices, Part, Profile, ROWS, Work};

/// Most threads that finish, so that each has several turns of time: an H200 was 6 % faster with 128 than with 32 at 1024, B 16.
const FINISHERS: u32 = 128;

impl Layout {
    /// With threads that finish, where subgroups share K alone and a workgroup of the device has room for them.
    pub fn with_finishers(self, profile: Profile) -> Self {
        let suits = self.backward && self.phases[1].gates == 0 && self.matrices == Matrices::Off && self.shuffles && !self.rolled;
        // One for each of a team's units and rows, or as many as there may be: each has several turns of time then.
        let turns = self.team_rows.div_ceil(self.rows).next_power_of_two();
        let of_turn = self.units * self.rows;
        let slots = (FINISHERS / of_turn.max(1)).clamp(1, turns);
        let [with, without] = [(of_turn * slots).next_multiple_of(self.subgroup), 0].map(|finishers| Self { finishers, ..self });
        let fits = self.threads + with.finishers <= profile.most_with_finishers && with.bytes() <= profile.bytes.into();
        if suits && self.across == 1 && !self.one_turn() && fits { with } else { without }
    }

    /// Whether a thread keeps what it multiplies in registers, as no other one multiplies it.
    pub fn in_registers(&self) -> bool {
        self.finishers > 0
    }

    /// Backward in several turns: subgroups that share K alone, so that a word is multiplied by one thread and stays in its registers,
    /// with as many rows at a time as these hold. None where that pads K much.
    pub(super) fn with_k_over_all(self, profile: Profile, work: Work) -> Option<Self> {
        if self.one_turn() {
            return None;
        }
        let along = self.threads / self.subgroup;
        let phases = self.phases.map(|part| Part { chunks: work.k(part.gates).div_ceil(4 * self.subgroup * along), ..part });
        let rows = std::iter::successors(Some(self.team_rows.next_power_of_two().min(2 * ROWS) / 2), |rows| Some(rows / 2));
        let layouts =
            rows.take_while(|&rows| rows > 0).map(|rows| Self { along, across: 1, rows, phases, ..self }.with_finishers(profile));
        let found = layouts.into_iter().find(|layout| layout.in_registers() && layout.shortage(profile).is_none())?;
        let k = work.k(work.gates);
        (4 * (found.k_padded(0) - k) <= k).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::profile::Vendor;

    fn lstm(hidden: u32, batch: u32, gates: u32) -> Work {
        Work { hidden, batch, directions: 1, gates, first_phase_gates: gates, backward: true, halves: false }
    }

    /// Backward in several turns of rows, where all subgroups share K and a word stays with the thread that multiplies it: H, B, gates to
    /// threads, parts of K, rows at a time.
    #[test]
    fn operands_stay_in_registers_in_several_turns() {
        let h200 = Profile::new(Vendor::Nvidia, 32, 1024, 48 << 10);
        for (hidden, batch, gates, expected) in [
            (768, 16, 4, Some([256, 8, 4])),
            (1024, 16, 4, Some([256, 8, 2])),
            (512, 16, 4, None),
            (600, 16, 4, None),
            (1024, 1, 4, None),
        ] {
            let work = lstm(hidden, batch, gates);
            let layout = Layout::new(h200, 132, work).unwrap();
            let made = layout.in_registers().then_some([layout.threads, layout.along, layout.rows]);
            assert_eq!(made, expected, "{hidden} {batch}: {layout:?}");
        }
        let amd = Profile::new(Vendor::Amd, 64, 1024, 64 << 10);
        assert!(!Layout::new(amd, 132, lstm(768, 16, 4)).unwrap().in_registers(), "nobody finishes there");
    }
}
