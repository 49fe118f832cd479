//! The layout of a recurrence in f16 whose products go by cooperative matrices.

use super::super::tile::{Matrices, SIZE};
use super::{Layout, Part, Profile, Work};

/// Below these an H200 is as fast without: a step of 16 rows costs what it costs, however few there are.
const LEAST_HIDDEN: u32 = 512;
const LEAST_ROWS: u32 = 8;
/// Most matrices of gates and units that subgroups share, before they share K.
const MOST_ACROSS: u32 = 4;

impl Layout {
    /// None where the work is not for matrices, or does not fit them.
    pub(super) fn by_matrices(profile: Profile, share: u32, work: Work) -> Option<Self> {
        let suits = work.halves && !work.backward && work.gates == work.first_phase_gates;
        let pays = profile.matrices == Matrices::Emulated || work.hidden >= LEAST_HIDDEN && work.batch >= LEAST_ROWS;
        if profile.matrices == Matrices::Off || !suits || !pays || !profile.shuffles {
            return None;
        }
        // Two matrices of gates and units, if all rows go in one turn; else more units, and fewer members beside whom there are more teams.
        let least = (2 * SIZE / work.gates.next_power_of_two()).max(2);
        let layouts = [least, 2 * least, 4 * least, 8 * least].into_iter().filter_map(|units| {
            let across = (work.gates * units).div_ceil(SIZE).next_power_of_two().min(MOST_ACROSS);
            Self::of_matrices(profile, share, work, units, across)
        });
        layouts.min_by_key(|layout| layout.team_rows.div_ceil(SIZE))
    }

    /// The same with so many units of a member and subgroups across them.
    fn of_matrices(profile: Profile, share: u32, work: Work, units: u32, across: u32) -> Option<Self> {
        let subgroups = profile.threads / profile.subgroup;
        let along = (subgroups / across).max(1).min(work.hidden.div_ceil(SIZE));
        let members = work.hidden.div_ceil(units);
        let teams = (share / members).clamp(1, work.batch.div_ceil(SIZE));
        let team_rows = work.batch.div_ceil(teams);
        let chunks = work.hidden.div_ceil(SIZE * along);
        let phase = Part { first: 0, gates: work.gates, padded: work.gates.next_power_of_two(), chunks };
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
            backward: false,
            rolled: false,
            vectors: false,
            matrices: profile.matrices,
            finishers: 0,
        };
        let fits = members <= share
            && layout.bytes() <= profile.bytes.into()
            && (layout.weights() <= profile.weights || profile.matrices == Matrices::Emulated);
        (fits && layout.tile(0, false).fault().is_none()).then_some(layout)
    }
}
