//! The layout of a recurrence in f16 whose products go by cooperative matrices.

use super::super::tile::{Matrices, SIZE};
use super::{Layout, Part, Profile, Work};

/// Below these an H200 is as fast without: a step of 16 rows costs what it costs, however few there are.
const LEAST_HIDDEN: u32 = 512;
const LEAST_ROWS: u32 = 8;
/// Most matrices of gates and units that subgroups share, before they share K.
const MOST_ACROSS: u32 = 4;
/// Most subgroups backward: the sums of all parts of K meet in workgroup memory.
const MOST_SUBGROUPS_BACKWARD: u32 = 8;

impl Layout {
    /// None where the work is not for matrices, or does not fit them.
    pub(super) fn by_matrices(profile: Profile, share: u32, work: Work) -> Option<Self> {
        let suits = work.halves && work.gates == work.first_phase_gates;
        let pays = profile.matrices == Matrices::Emulated || work.hidden >= LEAST_HIDDEN && work.batch >= LEAST_ROWS;
        if profile.matrices == Matrices::Off || !suits || !pays || !profile.shuffles {
            return None;
        }
        if work.backward {
            return Self::backward_by_matrices(profile, share, work);
        }
        // Two matrices of gates and units, if all rows go in one turn; else more units, and fewer members beside whom there are more teams.
        let least = (2 * SIZE / work.gates.next_power_of_two()).max(2);
        let layouts = [least, 2 * least, 4 * least, 8 * least].into_iter().filter_map(|units| {
            let across = (work.gates * units).div_ceil(SIZE).next_power_of_two().min(MOST_ACROSS);
            Self::of_matrices(profile, share, work, units, across)
        });
        layouts.min_by_key(|layout| layout.team_rows.div_ceil(SIZE))
    }

    /// As few turns of rows as there can be, then as few units of a member: beside fewer members there are more teams.
    fn backward_by_matrices(profile: Profile, share: u32, work: Work) -> Option<Self> {
        let layouts = [SIZE, 2 * SIZE, 4 * SIZE].into_iter().filter_map(|units| {
            let subgroups = (profile.threads / profile.subgroup).min(MOST_SUBGROUPS_BACKWARD);
            let across = (units / SIZE).min(subgroups);
            Self::of_units_backward(profile, share, work, units, [across, subgroups / across])
        });
        layouts.min_by_key(|layout| layout.team_rows.div_ceil(layout.rows))
    }

    /// With as many rows at a time as the workgroup has memory for, and threads that finish them.
    fn of_units_backward(profile: Profile, share: u32, work: Work, units: u32, [across, along]: [u32; 2]) -> Option<Self> {
        let layout = Self::teams_of_matrices(profile, share, work, units, [across, along])?;
        let rows = std::iter::successors(Some(layout.team_rows.next_power_of_two().min(SIZE)), |rows| Some(rows / 2));
        let with_rows = |rows: u32| Self { rows: rows.max(SIZE / along.min(SIZE)), ..layout };
        rows.take_while(|&rows| rows > 0).map(with_rows).find(|layout| layout.fits_matrices(profile))
    }

    /// The same with so many units of a member and subgroups across them.
    fn of_matrices(profile: Profile, share: u32, work: Work, units: u32, across: u32) -> Option<Self> {
        let subgroups = profile.threads / profile.subgroup;
        let along = (subgroups / across).max(1).min(work.hidden.div_ceil(SIZE));
        Self::teams_of_matrices(profile, share, work, units, [across, along]).filter(|layout| layout.fits_matrices(profile))
    }

    /// With as many teams as there is room for, 16 rows at a time.
    fn teams_of_matrices(profile: Profile, share: u32, work: Work, units: u32, [across, along]: [u32; 2]) -> Option<Self> {
        let members = work.hidden.div_ceil(units);
        // Forward a product takes 16 rows whether they are there or not.
        let most = if work.backward { work.batch } else { work.batch.div_ceil(SIZE) };
        let teams = (share / members).clamp(1, most);
        let team_rows = work.batch.div_ceil(teams);
        let padded = if work.backward { 1 } else { work.gates.next_power_of_two() };
        let phase = Part { first: 0, gates: work.gates, padded, chunks: work.k_by_matrices().div_ceil(SIZE * along) };
        let layout = Self {
            threads: across * along * profile.subgroup,
            subgroup: profile.subgroup,
            shuffles: true,
            units,
            across,
            along,
            rows: SIZE,
            members,
            teams: work.batch.div_ceil(team_rows),
            team_rows,
            phases: [phase, Part { first: work.gates, ..Part::default() }],
            backward: work.backward,
            rolled: false,
            vectors: false,
            matrices: profile.matrices,
            finishers: 0,
        };
        (members <= share).then_some(layout)
    }

    /// Threads that stage backward's words. By matrices the last of a workgroup finish the turn before meanwhile, but for where there is
    /// one turn, which an H200 made as fast so, or no half is left; without them all stage.
    pub fn stagers(&self) -> u32 {
        let finishers = (self.units * self.rows).next_multiple_of(self.subgroup);
        let apart = self.matrices != Matrices::Off && !self.one_turn() && 2 * finishers <= self.threads;
        if apart { self.threads - finishers } else { self.threads }
    }

    /// Whether registers, memory and threads suffice.
    fn fits_matrices(&self, profile: Profile) -> bool {
        let finishes = !self.backward || self.units * self.rows <= self.threads;
        finishes
            && self.bytes() <= profile.bytes.into()
            && (self.weights() <= profile.weights || profile.matrices == Matrices::Emulated)
            && self.tile(0, false).fault().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::profile::DeviceProfile;

    /// H, B, gates: teams, members, threads, those that stage, parts of K, rows at a time.
    #[test]
    fn backward_on_an_h200() {
        let [gpu, ..] = DeviceProfile::samples();
        let profile = Profile::from(DeviceProfile { matrices: true, ..gpu });
        for (hidden, batch, gates, expected) in [
            (512, 16, 4, [4, 32, 256, 256, 8, 4]),
            (512, 64, 4, [8, 16, 256, 256, 4, 8]),
            (768, 16, 4, [2, 48, 256, 192, 8, 4]),
            (1024, 16, 4, [2, 64, 256, 192, 8, 4]),
            (1024, 64, 4, [2, 64, 256, 192, 8, 4]),
            (520, 9, 4, [3, 33, 256, 256, 8, 4]),
            (512, 16, 3, [4, 32, 256, 256, 8, 4]),
            (700, 33, 1, [6, 22, 256, 256, 4, 8]),
        ] {
            let work = Work { hidden, batch, directions: 1, gates, first_phase_gates: gates, backward: true, halves: true };
            let layout = Layout::new(profile, 132, work).expect("a layout");
            let Layout { teams, members, threads, along, rows, .. } = layout;
            assert_eq!(
                [teams, members, threads, layout.stagers(), along, rows],
                expected,
                "{hidden} {batch} {gates}: {layout:?}"
            );
            assert_eq!(layout.matrices, Matrices::On);
        }
    }
}
