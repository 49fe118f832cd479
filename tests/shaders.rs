//! Every WGSL module that any cell can ask for parses and validates, without a device.

mod common;

use std::collections::BTreeSet;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use tidegate::check::shader_sources;

/// naga's verdict on one module.
fn validate(source: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    // What goes beyond plain WebGPU, and only where the device has it.
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES | Capabilities::SUBGROUP);
    validator.validate(&module).map(drop).map_err(|e| e.emit_to_string(source))
}

#[test]
fn every_shader_is_valid() {
    let mut seen = BTreeSet::new();
    let mut entries = BTreeSet::new();
    for (name, cell) in common::cell_variants() {
        for (entry, source) in shader_sources(&*cell) {
            entries.insert(entry);
            if seen.insert(source.clone()) {
                validate(&source).unwrap_or_else(|e| panic!("{name}: {entry}: {e}"));
            }
        }
    }
    let expected = [
        "bulk_forward",
        "clear_exchange",
        "column_sum",
        "held_backward",
        "held_forward",
        "matmul",
        "matmul_held",
        "pack",
        "persistent_backward",
        "persistent_forward",
        "prepare",
        "previous",
        "reduce",
        "sequence_backward",
        "sequence_forward",
        "step_backward",
        "step_forward",
        "stream_forward",
    ];
    assert_eq!(entries, BTreeSet::from(expected));
}

#[test]
fn a_broken_shader_is_not() {
    let (_, cell) = common::cell_variants().remove(0);
    for (entry, source) in shader_sources(&*cell) {
        // Comments may name sizes too.
        let code: String = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let broken = code.replacen("sizes.", "sizes.no_such_", 1);
        assert_ne!(code, broken, "{entry}");
        assert!(validate(&broken).is_err(), "{entry}");
    }
}
