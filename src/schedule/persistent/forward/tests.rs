use super::super::layout::{Layout, Work};
use super::*;
use crate::cell::registry;
use crate::gpu::element::{Access, Element};
use crate::gpu::kernel::StepIndex;
use crate::gpu::profile::DeviceProfile;
use crate::schedule::layer::{LayerSizes, backward_bindings, forward_bindings};
use crate::schedule::persistent::{Forced, backward_source, forward_body, forward_source, layout};

fn bodies(check: impl Fn(&Body<'_>, &str)) {
    let [gpu, ..] = DeviceProfile::samples();
    for subgroup in [32, 64] {
        let device = DeviceProfile { subgroup_min: subgroup, subgroup_max: 64, matrices: subgroup == 32, ..gpu };
        for cell in registry().iter().map(|cell| ShaderCell::new(&**cell)) {
            for (hidden, batch) in [(64, 1), (256, 1), (256, 16), (512, 16), (512, 64), (1024, 1)] {
                for halves in [false, true] {
                    let (gates, first_phase_gates) = (cell.gates.len() as u32, cell.first_phase_gates as u32);
                    let work = Work { hidden, batch, directions: 1, gates, first_phase_gates, backward: false, halves };
                    let layout = Layout::new(device.into(), device.workgroups, work).unwrap();
                    let body = Body::new(&cell, layout, device.in_turn, halves, layout.is_filled_by(hidden, batch));
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
        let mut first = asked.matches("= atomicLoad(").count();
        if body.asks_ahead() {
            // In the turn before, behind its barrier and before its products.
            assert_eq!(first, 0, "{body:?}");
            let (_, behind) = step.split_once("workgroupBarrier();").unwrap();
            let product = if body.layout.matrices == Matrices::On { "coopLoad<" } else { "let from_quad" };
            first = behind.split(product).next().unwrap().matches("= atomicLoad(").count();
        }
        let words = (body.tile().rows * body.tile().k() / if body.halves { 2 } else { 1 }).div_ceil(body.tile().threads);
        assert_eq!(first as u32, words.clamp(1, if body.layout.matrices == Matrices::On { 48 } else { 16 }), "{body:?}");
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

/// By cooperative matrices, in both directions of time, on sizes that divide and on ragged ones: valid, writable as SPIR-V, of floats
/// alone, with one product for each matrix of weights.
#[test]
fn kernels_by_matrices_are_valid() {
    let [gpu, ..] = DeviceProfile::samples();
    let device = DeviceProfile { matrices: true, ..gpu };
    for cell in registry().iter().map(|cell| ShaderCell::new(&**cell)).filter(|cell| !cell.has_two_phases()) {
        for (hidden, batch) in [(512, 16), (600, 9), (1024, 16), (1024, 64)] {
            let sizes = LayerSizes { hidden, batch, directions: 1, ..Default::default() };
            let body = forward_body(device, Forced::default(), &cell, &sizes, Element::F16).expect("a layout");
            let source = forward_source(&body, StepIndex::Immediate, forward_bindings([Element::F16; 2]));
            let back = layout(device, Forced::default(), &cell, &sizes, true, Element::F16).expect("a layout");
            let (bindings, whole) = (backward_bindings([Element::F16; 3], Access::Read), back.is_filled_by(hidden, batch));
            let back_source = backward_source(&cell, &back, device.in_turn, whole, StepIndex::Immediate, bindings);
            for (layout, text) in [(body.layout, &source.wgsl), (back, &back_source.wgsl)] {
                assert_eq!(layout.matrices, Matrices::On, "{} {hidden} {batch}", cell.name);
                assert!(layout.bytes() <= device.memory.into() && layout.groups(1) <= device.workgroups, "{layout:?}");
                assert_valid(text);
                // 32 lanes hold the 256 numbers of a matrix, two in a register.
                let matrices = text.matches("= coopMultiplyAdd(w").count() as u32;
                assert_eq!(layout.weights(), matrices * 4, "{layout:?}");
                let (_, step) = text.split_once("for (var step").unwrap();
                assert!(!step.contains("coopLoadT") && matrices == step.matches("coopMultiplyAdd").count() as u32);
            }
        }
    }
}

fn assert_valid(text: &str) {
    use naga::valid::{Capabilities, ValidationFlags, Validator};
    let module = naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    let valid = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module);
    let info = valid.unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)));
    // naga makes matrices of whatever they are loaded from.
    let is_float = |ty: &naga::Type| match ty.inner {
        naga::TypeInner::CooperativeMatrix { scalar, .. } => scalar.kind == naga::ScalarKind::Float,
        _ => true,
    };
    assert!(module.types.iter().all(|(_, ty)| is_float(ty)), "a matrix of something else than floats");
    let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    naga::back::spv::write_vec(&module, &info, &options, None).unwrap_or_else(|e| panic!("{e:?}"));
}
