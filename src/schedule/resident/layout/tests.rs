use super::*;
use crate::gpu::capabilities::{INVOCATIONS, WORKGROUP_BYTES};
use crate::schedule::resident::bounds::OperandRead;

/// Gates, and those of the first phase: an Elman network, a GRU after and before the product, an LSTM, and a cell of many gates.
const CELLS: [(u32, u32); 5] = [(1, 1), (3, 3), (3, 2), (4, 4), (12, 7)];
const BATCHES: [u32; 11] = [1, 2, 3, 7, 8, 9, 64, 127, 1000, 4096, 524_296];

/// What devices give: the samples, few threads, subgroups of 8 and of 64, and a CPU of many cores.
fn profiles() -> Vec<Bounds> {
    let [small, gpu, cpu] = Bounds::samples();
    let more = [
        Bounds { threads: 64, ..gpu },
        Bounds { threads: 1024, subgroup: 64, take: OperandRead::Scalars, ..gpu },
        Bounds { threads: 256, groups: 64, ..cpu },
        Bounds { groups: 3, subgroup: 64, ..cpu },
    ];
    [small, gpu, cpu].into_iter().chain(more).collect()
}

fn all_work(hidden: u32, batch: u32) -> impl Iterator<Item = Work> {
    CELLS.into_iter().flat_map(move |(gates, first)| {
        [1, 2]
            .into_iter()
            .flat_map(move |directions| [false, true].map(|backward| Work { hidden, batch, directions, gates, first, backward }))
    })
}

fn sizes(work: Work) -> LayerSizes {
    LayerSizes { hidden: work.hidden, batch: work.batch, directions: work.directions, ..Default::default() }
}

/// Every H up to 300 and around what may matter beyond, each with every B.
fn shapes() -> impl Iterator<Item = (u32, u32)> {
    let beyond = [320, 336, 337, 383, 384, 385, 511, 512, 513, 1000, 1023, 1024, 1025, 2047, 2048, 2049, 3000, 4095, 4096];
    (1..=300).chain(beyond).flat_map(|hidden| BATCHES.map(|batch| (hidden, batch)))
}

#[test]
fn all_rows_of_all_directions_are_walked_once() {
    for (hidden, batch) in shapes() {
        for (profile, work) in profiles().into_iter().flat_map(|profile| all_work(hidden, batch).map(move |work| (profile, work)))
        {
            let layout = ResidentLayout::new(profile, work);
            let [x, y, z] = layout.groups(&sizes(work));
            let rows = u64::from(layout.rows());
            let case = || format!("{work:?}, {profile:?}: {layout:?}");
            // A workgroup takes the rows from y·rows on, as far as there are some: none is left over, and no workgroup has none.
            assert!(rows > 0 && y * rows >= batch.into() && (y - 1) * rows < batch.into(), "{}", case());
            assert_eq!((x, z), (1, work.directions.into()), "{}", case());
        }
    }
}

#[test]
fn a_workgroup_is_within_every_devices_limits() {
    for (hidden, batch) in shapes() {
        for (profile, work) in profiles().into_iter().flat_map(|profile| all_work(hidden, batch).map(move |work| (profile, work)))
        {
            let case = || format!("{work:?}, {profile:?}");
            match ResidentLayout::new(profile, work) {
                ResidentLayout::Reread(layout) => {
                    let words = |(_, words): &(&str, u32)| *words;
                    let constants = layout.constants();
                    let [exchange, sums] = [4, 5].map(|at| words(&constants[at]));
                    assert!(4 * (exchange + sums) <= WORKGROUP_BYTES, "{}: {layout:?}", case());
                    assert!(layout.units * layout.lanes <= INVOCATIONS && layout.rows <= 8, "{}: {layout:?}", case());
                    // What rows exchange is either all in workgroup memory or not at all.
                    let needed = u64::from(layout.rows * work.vector()) * u64::from(hidden);
                    assert!(!layout.shared || needed <= exchange.into(), "{}: {layout:?}", case());
                }
                ResidentLayout::Registers(layout) => {
                    let threads = layout.group * layout.lanes;
                    assert!(threads <= profile.threads && layout.group % profile.subgroup == 0, "{}: {layout:?}", case());
                    assert!(16 * layout.exchange + 4 * layout.parts <= WORKGROUP_BYTES, "{}: {layout:?}", case());
                    assert!(4 * layout.held <= profile.resident_held, "{}: {layout:?}", case());
                    assert!(
                        u64::from(threads) * u64::from(4 * layout.held) <= profile.held_in_all.into(),
                        "{}: {layout:?}",
                        case()
                    );
                }
            }
        }
    }
}

/// Which number of a product each thread keeps as its `held[i]`, as the kernels' `hold_weights` have it: a unit, and where K is.
fn kept(layout: &Registers, work: Work, thread: u32, i: u32) -> Option<(u32, u32, u32)> {
    let (lane, within) = (thread / layout.group, thread % layout.group);
    let hidden = work.hidden;
    let (unit, gate, k, end) = if work.backward {
        let (unit, quad) = (within + i % layout.columns * layout.group, i / layout.columns);
        let first_rows = work.first * hidden;
        match quad.checked_sub(layout.quads[0]) {
            None => (unit, 0, 4 * (lane * layout.quads[0] + quad), first_rows),
            Some(quad) => (unit, 0, first_rows + 4 * (lane * layout.quads[1] + quad), work.gates * hidden),
        }
    } else {
        (within, i % work.gates, 4 * (lane * layout.quads[0] + i / work.gates), hidden)
    };
    (unit < hidden && k < end).then_some((unit, gate, k))
}

#[test]
fn every_weight_is_kept_by_one_thread_and_multiplied_once() {
    let mut found = 0;
    for hidden in [32, 33, 35, 64, 65, 97, 128, 160, 200, 255, 256] {
        for (profile, work) in profiles().into_iter().flat_map(|profile| all_work(hidden, 1).map(move |work| (profile, work))) {
            let ResidentLayout::Registers(layout) = ResidentLayout::new(profile, work) else { continue };
            found += 1;
            let case = format!("{work:?}, {profile:?}: {layout:?}");
            let mut all = Vec::new();
            for thread in 0..layout.group * layout.lanes {
                all.extend((0..layout.held).filter_map(|i| kept(&layout, work, thread, i)));
            }
            all.sort_unstable();
            assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{case}: a weight is there twice");
            // Quads of K for each unit and gate: backward K runs over the gates, phase by phase, and each begins anew.
            let quads = |k: u32| u64::from(k.div_ceil(4));
            let of_unit = match work.backward {
                false => u64::from(work.gates) * quads(hidden),
                true => quads(work.first * hidden) + quads((work.gates - work.first) * hidden),
            };
            assert_eq!(all.len() as u64, u64::from(hidden) * of_unit, "{case}");
            let mut multiplied: Vec<u32> = layout
                .phases(work)
                .iter()
                .flat_map(|phase| {
                    let quad = |q| phase.gates.clone().map(move |gate| phase.from + q * phase.stride + gate);
                    (0..phase.quads).flat_map(quad).collect::<Vec<_>>()
                })
                .collect();
            multiplied.sort_unstable();
            assert_eq!(multiplied, (0..layout.held).collect::<Vec<_>>(), "{case}");
        }
    }
    assert!(found > 200, "only {found} layouts keep their weights in registers");
}

#[test]
fn no_dispatch_is_longer_than_it_may_be() {
    const FLOPS: u64 = 2_200_000_000;
    for (hidden, batch) in shapes() {
        for (profile, work) in profiles().into_iter().flat_map(|profile| all_work(hidden, batch).map(move |work| (profile, work)))
        {
            let layout = ResidentLayout::new(profile, work);
            let chunk = layout.chunk(profile, FLOPS, work);
            let [_, y, z] = layout.groups(&sizes(work));
            let waves = (y * z).div_ceil(profile.groups.into());
            let step = 2 * u64::from(layout.rows()) * u64::from(work.gates) * u64::from(hidden).pow(2);
            // A single step cannot be cut.
            assert!(chunk == 1 || u64::from(chunk) * step * waves <= FLOPS, "{work:?}, {profile:?}: {chunk} steps of {layout:?}");
        }
    }
}
