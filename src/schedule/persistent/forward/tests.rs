use super::super::layout::{Layout, Work};
use super::*;
use crate::cell::registry;
use crate::gpu::profile::DeviceProfile;

fn bodies(check: impl Fn(&Body<'_>, &str)) {
    let [gpu, ..] = DeviceProfile::samples();
    for subgroup in [32, 64] {
        let device = DeviceProfile { subgroup_min: subgroup, subgroup_max: 64, ..gpu };
        for cell in registry().iter().map(|cell| ShaderCell::new(&**cell)) {
            for (hidden, batch) in [(64, 1), (256, 1), (256, 16), (512, 16), (512, 64), (1024, 1)] {
                for halves in [false, true] {
                    let (gates, first_phase_gates) = (cell.gates.len() as u32, cell.first_phase_gates as u32);
                    let work = Work { hidden, batch, directions: 1, gates, first_phase_gates, backward: false };
                    let layout = Layout::new(device.into(), device.workgroups, work).unwrap();
                    let body = Body::new(&cell, layout, device.in_turn, halves);
                    check(&body, &body.wgsl());
                }
            }
        }
    }
}

/// One barrier a turn, two where sums meet in workgroup memory.
#[test]
fn barriers_of_a_step() {
    bodies(|body, text| {
        let (_, step) = text.split_once("for (var step").unwrap();
        let turns = if body.cell.has_two_phases() { 2 } else { 1 };
        let of_turn = 1 + usize::from(body.tile().has_parts());
        assert_eq!(step.matches("workgroupBarrier()").count(), turns * of_turn, "{body:?}");
    });
}

/// What finishing needs, and all words, are asked for before the first is waited for; what others wait for is stored first.
#[test]
fn loads_come_before_waits_and_words_before_results() {
    bodies(|body, text| {
        let (_, step) = text.split_once("for (var step").unwrap();
        let wait = step.find("loop {").unwrap();
        assert!(step.rfind("input_part[").unwrap() < wait || !body.one_turn && body.cell.has_two_phases(), "{body:?}");
        let (asked, waited) = step[..step.find("workgroupBarrier()").unwrap()].split_once("loop {").unwrap();
        let first = asked.matches("= atomicLoad(").count();
        let words = (body.tile().rows * body.tile().k() / if body.halves { 2 } else { 1 }).div_ceil(body.tile().threads);
        assert_eq!(first as u32, words.clamp(1, 16), "{body:?}");
        assert!(waited.contains("gave_up"));
        let stored = step.find("store_output(").unwrap();
        assert!(body.halves || step.find("atomicStore(").unwrap() < stored, "{body:?}");
    });
}

/// No private array is indexed by what changes, and no array is declared at all.
#[test]
fn everything_private_is_a_scalar() {
    bodies(|body, text| {
        let entry = &text[text.find("@compute").unwrap()..];
        assert!(!entry.contains("array<"), "{body:?}");
        for index in ["next[", "saved["] {
            for (at, _) in entry.match_indices(index) {
                assert!(entry[at + index.len()..].starts_with(|c: char| c.is_ascii_digit()), "{body:?}");
            }
        }
    });
}
