use super::*;

const H200: Profile = Profile {
    subgroup: 32,
    shuffles: true,
    threads: 256,
    most_threads: 512,
    most_with_finishers: 1024,
    bytes: 48 << 10,
    weights: 128,
    registers: 200,
    rows: [8, 8],
    quads_of_step: 64,
    loops: false,
    rolled: false,
    matrices: Matrices::Off,
};
const H200_WORKGROUPS: u32 = 132;

fn lstm(hidden: u32, batch: u32, backward: bool) -> Work {
    Work { hidden, batch, directions: 1, gates: 4, first_phase_gates: 4, backward, halves: false }
}

/// A case, and the variants of the study within 1.15 of its best: µs a step, [teams, units, threads, along, rows].
type Case = (bool, u32, u32, &'static [(f64, [u32; 5])]);

/// Backward, H, B: measured on an H200, exchange by atomics.
const MEASURED: &[Case] = &[
    (
        true,
        256,
        1,
        &[
            (0.862, [1, 32, 256, 2, 1]),
            (0.872, [1, 32, 256, 1, 1]),
            (0.874, [1, 32, 512, 4, 1]),
            (0.907, [1, 32, 256, 4, 1]),
            (0.914, [1, 32, 512, 2, 1]),
            (0.926, [1, 32, 512, 8, 1]),
            (0.932, [1, 16, 512, 4, 1]),
            (0.942, [1, 32, 512, 1, 1]),
            (0.943, [1, 16, 512, 8, 1]),
            (0.949, [1, 32, 256, 8, 1]),
            (0.951, [1, 16, 256, 4, 1]),
            (0.957, [1, 16, 256, 8, 1]),
            (0.98, [1, 16, 512, 2, 1]),
        ],
    ),
    (
        true,
        512,
        16,
        &[
            (2.747, [4, 16, 512, 8, 4]),
            (2.875, [4, 16, 512, 4, 4]),
            (2.885, [4, 16, 512, 4, 2]),
            (2.904, [4, 16, 256, 4, 2]),
            (2.907, [4, 16, 256, 2, 2]),
            (2.984, [4, 16, 512, 8, 2]),
            (3.002, [4, 16, 256, 8, 2]),
            (3.02, [4, 16, 256, 4, 4]),
            (3.026, [4, 16, 256, 2, 4]),
        ],
    ),
    (
        true,
        1024,
        1,
        &[
            (2.518, [1, 8, 256, 8, 1]),
            (2.53, [1, 8, 256, 4, 1]),
            (2.636, [1, 8, 256, 2, 1]),
            (2.798, [1, 8, 512, 8, 1]),
            (2.813, [1, 8, 512, 16, 1]),
            (2.845, [1, 8, 512, 4, 1]),
        ],
    ),
    // By this crate, with operands in registers, where its layout of the study's best, [1, 8, 512, 8, 2] with 13.86, took 22.8.
    (true, 1024, 16, &[(16.0, [1, 8, 256, 8, 2])]),
    (false, 128, 1, &[(0.621, [1, 32, 256, 1, 1])]),
    (
        false,
        256,
        1,
        &[
            (0.78, [1, 32, 256, 1, 1]),
            (0.807, [1, 16, 256, 2, 1]),
            (0.814, [1, 8, 256, 2, 1]),
            (0.822, [1, 32, 256, 2, 1]),
            (0.857, [1, 8, 512, 2, 1]),
            (0.865, [1, 16, 512, 2, 1]),
            (0.877, [1, 16, 256, 1, 1]),
        ],
    ),
    (
        false,
        256,
        16,
        &[(1.254, [16, 32, 256, 2, 1]), (1.319, [16, 32, 256, 1, 1]), (1.322, [16, 32, 512, 2, 1]), (1.392, [8, 16, 256, 2, 2])],
    ),
    (
        false,
        512,
        1,
        &[
            (0.968, [1, 16, 256, 1, 1]),
            (0.978, [1, 16, 256, 2, 1]),
            (1.039, [1, 16, 256, 4, 1]),
            (1.087, [1, 16, 512, 4, 1]),
            (1.089, [1, 16, 512, 2, 1]),
            (1.09, [1, 8, 256, 4, 1]),
            (1.107, [1, 8, 512, 4, 1]),
            (1.113, [1, 8, 512, 2, 1]),
        ],
    ),
    (
        false,
        512,
        16,
        &[
            (2.279, [4, 16, 512, 1, 2]),
            (2.28, [4, 16, 256, 2, 4]),
            (2.363, [4, 16, 256, 1, 2]),
            (2.462, [4, 16, 512, 2, 4]),
            (2.481, [4, 16, 256, 2, 2]),
            (2.576, [2, 8, 256, 1, 4]),
            (2.612, [4, 16, 512, 2, 2]),
        ],
    ),
    (
        false,
        512,
        64,
        &[(5.702, [4, 16, 256, 1, 8]), (5.939, [4, 16, 512, 1, 8]), (6.347, [4, 16, 512, 1, 4]), (6.443, [4, 16, 256, 1, 4])],
    ),
    (
        false,
        1024,
        1,
        &[
            (1.461, [1, 8, 256, 2, 1]),
            (1.519, [1, 8, 512, 2, 1]),
            (1.539, [1, 8, 256, 1, 1]),
            (1.542, [1, 8, 256, 4, 1]),
            (1.588, [1, 8, 512, 4, 1]),
            (1.631, [1, 8, 256, 8, 1]),
        ],
    ),
    (
        false,
        1024,
        16,
        &[
            (7.107, [1, 8, 512, 2, 4]),
            (7.348, [1, 8, 512, 4, 4]),
            (7.486, [1, 8, 256, 1, 4]),
            (7.492, [1, 8, 256, 2, 4]),
            (7.933, [1, 8, 256, 4, 4]),
        ],
    ),
];

#[test]
fn layouts_are_within_a_seventh_of_the_best_that_an_h200_measured() {
    assert_eq!(Profile::new(Vendor::Nvidia, 32, 1024, 48 << 10), H200);
    for &(backward, hidden, batch, variants) in MEASURED {
        let layout = Layout::new(H200, H200_WORKGROUPS, lstm(hidden, batch, backward)).expect("it ran there");
        let Layout { teams, units, threads, along, rows, .. } = layout;
        let found = variants.iter().find(|(_, variant)| *variant == [teams, units, threads, along, rows]);
        let Some((us, _)) = found else {
            panic!("backward {backward}, H {hidden}, B {batch}: {layout:?} is none of {variants:?}")
        };
        assert!(*us <= 1.15 * variants[0].0, "{layout:?}: {us} µs against {}", variants[0].0);
    }
}

/// Gates and first-phase gates: Elman, binary gate, GRU, LSTM, a GRU that resets before, and one of five.
const CELLS: [[u32; 2]; 6] = [[1, 1], [2, 2], [3, 3], [4, 4], [3, 2], [5, 3]];

fn profiles() -> Vec<(Profile, u32)> {
    let forced =
        Profile { threads: 64, most_threads: 64, most_with_finishers: 64, ..Profile::new(Vendor::Nvidia, 8, 1024, 32 << 10) };
    vec![
        (H200, H200_WORKGROUPS),
        (H200, 8),
        (Profile::new(Vendor::Amd, 64, 1024, 64 << 10), 96),
        (Profile::new(Vendor::Amd, 32, 1024, 64 << 10), 96),
        (Profile::new(Vendor::Intel, 8, 1024, 64 << 10), 32),
        (Profile::new(Vendor::Apple, 32, 1024, 32 << 10), 16),
        (Profile::new(Vendor::Qualcomm, 64, 1024, 32 << 10), 8),
        (Profile::new(Vendor::Other, 0, 256, 16 << 10), 8),
        (forced, 2),
    ]
}

#[test]
fn every_layout_covers_its_work_once_and_stays_within_the_device() {
    let mut laid_out = [0; 9];
    let sizes = (1..=64).chain((65..=4096).step_by(61)).chain([96, 128, 200, 256, 384, 512, 640, 768, 1000, 1024, 2048, 4096]);
    for hidden in sizes {
        for batch in [1, 2, 3, 7, 16, 64, 100] {
            for [gates, first_phase_gates] in CELLS {
                for (i, (profile, workgroups)) in profiles().into_iter().enumerate() {
                    for (backward, directions) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
                        let work = Work { hidden, batch, directions, gates, first_phase_gates, backward, halves: false };
                        match Layout::new(profile, workgroups, work) {
                            Ok(layout) => check(profile, workgroups, work, layout),
                            Err(lacking) => {
                                assert!(lacking.needed > lacking.has, "{work:?}: {lacking:?}");
                                assert!(!lacking.what.is_empty());
                                continue;
                            }
                        }
                        laid_out[i] += 1;
                    }
                }
            }
        }
    }
    assert!(laid_out.iter().all(|&count| count > 1000), "{laid_out:?}");
}

fn check(profile: Profile, workgroups: u32, work: Work, layout: Layout) {
    let told = format!("{profile:?}, {workgroups} workgroups, {work:?}: {layout:?}");
    for (what, needed, has) in layout.demands(profile) {
        assert!(needed <= has, "{what}: {needed} of {has}; {told}");
    }
    assert!(layout.groups(work.directions) <= workgroups.max(work.directions), "{told}");
    assert_eq!(layout.threads, layout.across * layout.along * layout.subgroup, "{told}");
    assert_eq!(layout.units_of_subgroup() * layout.across, layout.units, "{told}");
    assert!(layout.threads <= profile.most_threads && layout.bytes() <= profile.bytes.into(), "{told}");
    for count in [layout.threads, layout.units, layout.rows, layout.across, layout.along, layout.values()] {
        assert!(count.is_power_of_two(), "{told}");
    }
    // Units and rows: none twice, none missing, no workgroup without any.
    let covers = |parts: u32, each: u32, all: u32| parts * each >= all && (parts - 1) * each < all;
    assert!(covers(layout.members, layout.units, work.hidden), "{told}");
    assert!(covers(layout.teams, layout.team_rows, work.batch), "{told}");
    assert!(layout.rows < 2 * layout.team_rows, "{told}");
    // K: every number in one lane of one part.
    let gates = layout.phases.map(|part| part.gates);
    assert_eq!((gates[0] + gates[1], layout.phases[0].first), (work.gates, 0), "{told}");
    assert_eq!(layout.phases[1].first, work.first_phase_gates, "{told}");
    for (phase, part) in layout.phases.into_iter().enumerate().filter(|(_, part)| part.gates > 0) {
        let k = work.k(part.gates);
        assert!(layout.k_padded(phase) >= k && layout.k_padded(phase) - k < layout.along * 4 * layout.subgroup, "{told}");
        assert!(part.padded >= if work.backward { 1 } else { part.gates }, "{told}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let refused = |profile, workgroups, work| Layout::new(profile, workgroups, work).expect_err("it is too large");
    let shortage = refused(H200, 8, lstm(512, 1, false));
    assert_eq!((shortage.what, shortage.needed, shortage.has), ("workgroups side by side", 32, 8));
    let shortage = refused(H200, H200_WORKGROUPS, lstm(1 << 14, 1, false));
    assert!(shortage.needed > shortage.has, "{shortage:?}");
}

#[test]
fn vendors_get_what_their_registers_hold() {
    let weights = |vendor, backward| {
        let profile = Profile::new(vendor, 32, 1024, 32 << 10);
        let layout = Layout::new(profile, 1 << 10, lstm(512, 16, backward)).expect("workgroups enough");
        [layout.weights(), layout.rows]
    };
    for (vendor, most) in [
        (Vendor::Nvidia, [128, 8]),
        (Vendor::Amd, [128, 4]),
        (Vendor::Intel, [64, 2]),
        (Vendor::Apple, [64, 1]),
        (Vendor::Qualcomm, [32, 1]),
    ] {
        for backward in [false, true] {
            let [held, rows] = weights(vendor, backward);
            assert!(held <= most[0] && held * 2 > most[0] / 2 && rows <= most[1], "{vendor:?}: {held} weights, {rows} rows");
        }
    }
}

/// µs a step that an H200 should take, from what its parts were measured to take: see benches/NOTES.md.
fn predicted(layout: &Layout, work: Work) -> (u32, u32, f64, f64) {
    let groups = layout.groups(work.directions);
    // A word to the others and back, by how many there are; the cell.
    let latency = [(49, 0.95), (9, 0.70), (0, 0.55)].into_iter().find(|(least, _)| groups >= *least).map_or(0.0, |found| found.1);
    let (mut step, mut fmas, mut shuffles, mut megabytes) = (0.0, 0, 0, 0.0);
    let turns = layout.team_rows.div_ceil(layout.rows);
    for part in layout.phases.iter().filter(|part| part.gates > 0) {
        let each = layout.units_of_subgroup();
        let gates = if work.backward { 1 } else { part.gates };
        let of_phase = each * gates * part.chunks * 4 * layout.rows;
        let mut values = each * part.padded * layout.rows;
        let mut of_lanes = 0;
        for _ in 0..layout.subgroup.ilog2() {
            values = (values / 2).max(1);
            of_lanes += values;
        }
        let words = (layout.rows * layout.along * part.chunks * 4 * layout.subgroup).div_ceil(layout.threads);
        // Subgroups of 32 at a time: four multiply in a clock, one shuffles or polls, and a quarter of one reads 16 bytes.
        let clocks = layout.threads / 32 * (of_phase / 4 + of_lanes + words + 4 * part.chunks * layout.rows);
        let barriers = if layout.has_parts() { 2.0 } else { 1.0 };
        step += latency + 0.2 + f64::from(turns) * (f64::from(clocks) / 1980.0 + 0.05 * barriers);
        megabytes += f64::from(groups * layout.team_rows * work.k(part.gates)) * 4e-6;
        fmas += of_phase;
        shuffles += of_lanes;
    }
    (fmas, shuffles, megabytes, step + megabytes / 5.0)
}

/// The table of benches/NOTES.md: `cargo test --lib predictions_for_an_h200 -- --ignored --nocapture`.
#[test]
#[ignore = "prints a table"]
fn predictions_for_an_h200() {
    println!(
        "| cell, H, B | teams x members, units, threads | parts of K, rows, turns | words | FMAs | shuffles | MB | µs a step |"
    );
    for (name, gates, first) in [("lstm", 4, 4), ("gru", 3, 3), ("gru_reset_before", 3, 2), ("rnn_tanh", 1, 1)] {
        let shapes = [(128, 1), (256, 1), (512, 1), (1024, 1), (256, 16), (512, 16), (768, 16), (1024, 16), (512, 64)];
        for (hidden, batch) in shapes.into_iter().filter(|shape| gates == 4 || *shape == (512, 16)) {
            for backward in [false, true] {
                let work = Work { hidden, batch, directions: 1, gates, first_phase_gates: first, backward, halves: false };
                let Ok(layout) = Layout::new(H200, H200_WORKGROUPS, work) else { continue };
                let (fmas, shuffles, megabytes, step) = predicted(&layout, work);
                let Layout { teams, members, units, threads, along, rows, .. } = layout;
                let (turns, words) = (layout.team_rows.div_ceil(rows), layout.words());
                let back = if backward { ", back" } else { "" };
                println!(
                    "| {name} {hidden}, {batch}{back} | {teams} x {members}, {units}, {threads} | {along}, {rows}, {turns} | {words} | {fmas} | \
                     {shuffles} | {megabytes:.2} | {step:.2} |"
                );
            }
        }
    }
}

/// 768 units are not padded: 96 workgroups of 8, K in whole blocks, forward and backward.
#[test]
fn three_times_a_power_of_two_is_not_padded() {
    for backward in [false, true] {
        let work = lstm(768, 16, backward);
        let layout = Layout::new(H200, H200_WORKGROUPS, work).expect("workgroups enough");
        assert_eq!((layout.members * layout.units, layout.k_padded(0)), (768, work.k(4)), "{layout:?}");
    }
}
