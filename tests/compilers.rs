//! Drivers whose hardware isn't there, as witnesses: each compiles the kernels of strategy persistent for its own GPU and says what
//! became of the registers. Nothing runs. AMD's is Mesa's RADV, which `tests/run` installs; those of Intel, Apple and Adreno lie in the
//! folder that `TIDEGATE_COMPILERS` names, `../shared/compilers` by default.
//!
//! A sample by default; with `TIDEGATE_FULL=1` every cell, H from 64 to 1024, B of 1, 16 and 64. `TIDEGATE_WITNESSES=intel,apple` asks
//! those vendors alone.
#![cfg(target_os = "linux")]

mod common;
#[path = "compilers/driver.rs"]
mod driver;
#[path = "compilers/witness.rs"]
mod witness;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tidegate::check::{PersistentKernel, PersistentTarget, persistent_kernels, shader_sources, unrolled_kernels};
use witness::{Verdict, Witness};

/// Seconds that a compiler may take for one kernel, on a processor of its own.
const MOST_SECONDS: f64 = 30.0;

fn target(vendor: &'static str, subgroup_min: u32, memory: u32, workgroups: u32) -> PersistentTarget {
    PersistentTarget { vendor, subgroup_min, threads: 1024, memory, workgroups, by_fours: false, matrices: false }
}

/// The devices, the smallest subgroups they may choose, their memory and how many workgroups run side by side: one of each vendor in
/// the sample.
fn witnesses() -> Vec<(Witness, PersistentTarget)> {
    let kib = |n: u32| n << 10;
    let full = std::env::var_os("TIDEGATE_FULL").is_some();
    let mut found = vec![(Witness::amd("navi31"), target("amd", 32, kib(64), 96))];
    if full {
        found.extend([
            (Witness::amd_wave32("navi31"), target("amd", 32, kib(64), 96)),
            (Witness::amd("navi21"), target("amd", 32, kib(64), 80)),
            (Witness::amd("vega10"), target("amd", 64, kib(64), 64)),
        ]);
    }
    for (vendor, models, target) in [
        ("intel", if full { &["dg2", "tgl"][..] } else { &["dg2"] }, target("intel", 8, kib(64), 32)),
        ("apple", &["M1"], target("apple", 32, kib(32), 16)),
        ("adreno", &["730"], target("qualcomm", 64, kib(32), 64)),
    ] {
        for model in models {
            found.extend(Witness::from_folder(vendor, model).map(|witness| (witness, target)));
        }
    }
    let wanted = std::env::var("TIDEGATE_WITNESSES").unwrap_or_default();
    found.retain(|(witness, _)| wanted.is_empty() || wanted.split(',').any(|vendor| witness.name.starts_with(vendor)));
    found
}

/// Kernels of a device with their names; the same text only once.
fn kernels(target: PersistentTarget) -> BTreeMap<String, PersistentKernel> {
    let full = std::env::var_os("TIDEGATE_FULL").is_some();
    let cells = if full { common::cell_variants() } else { Vec::new() };
    let sample = ["lstm", "gru_reset_before"].map(|name| (name.to_string(), tidegate::cell::by_name(name).unwrap()));
    let cells = if full { cells } else { sample.into() };
    let hidden = if full { &[64, 128, 256, 512, 768, 1024][..] } else { &[256, 512] };
    let batch = if full { &[1, 16, 64][..] } else { &[1, 16] };
    let mut texts = std::collections::BTreeSet::new();
    let mut kernels = BTreeMap::new();
    for (name, cell) in cells {
        for &hidden in hidden {
            for &batch in batch {
                for kernel in persistent_kernels(&*cell, target, hidden, batch).unwrap() {
                    if texts.insert(kernel.wgsl.clone()) {
                        let direction = if kernel.backward { "backward" } else { "forward" };
                        kernels.insert(format!("{name} {direction} H{hidden:04} B{batch:02}").replace(' ', "-"), kernel);
                    }
                }
            }
        }
    }
    kernels
}

/// What a witness said of one kernel, against what the device has.
fn fault(kernel: &PersistentKernel, verdict: &Verdict) -> Option<String> {
    let Verdict { seconds, spilled, scratch, memory, most_memory, threads, .. } = *verdict;
    let faults = [
        (seconds > MOST_SECONDS, format!("took {seconds:.1} s to compile")),
        (spilled > 0, format!("{spilled} registers spilled")),
        (scratch > 0, format!("{scratch} bytes of scratch memory")),
        (memory.max(kernel.bytes) > most_memory, format!("{memory} bytes of workgroup memory of {most_memory}")),
        (u64::from(kernel.threads) > threads, format!("{} threads of {threads}", kernel.threads)),
    ];
    let faults: Vec<_> = faults.into_iter().filter(|(found, _)| *found).map(|(_, what)| what).collect();
    (!faults.is_empty()).then(|| faults.join(", "))
}

#[test]
fn persistent_kernels_stay_in_registers() {
    stay_in_registers(kernels);
}

/// Those of strategies resident and stepwise, at the sizes that resident is taken for and at some that only stepwise is.
#[test]
fn unrolled_kernels_stay_in_registers() {
    stay_in_registers(unrolled);
}

fn unrolled(target: PersistentTarget) -> BTreeMap<String, PersistentKernel> {
    let full = std::env::var_os("TIDEGATE_FULL").is_some();
    let shapes = if full { &[(64, 1), (100, 1), (128, 1), (512, 1), (512, 16), (1024, 1)][..] } else { &[(128, 1), (512, 16)] };
    let mut kernels = BTreeMap::new();
    for name in ["lstm", "gru_reset_before"].into_iter().take(if full { 2 } else { 1 }) {
        let cell = tidegate::cell::by_name(name).unwrap();
        for &(hidden, batch) in shapes {
            for (i, (entry, kernel)) in unrolled_kernels(&*cell, target, hidden, batch).unwrap().into_iter().enumerate() {
                // What resident is not taken for is left out.
                if hidden <= 128 || !entry.starts_with("resident") {
                    kernels.insert(format!("{name}-{entry}-{i}-H{hidden:04}-B{batch:02}"), kernel);
                }
            }
        }
    }
    kernels
}

fn stay_in_registers(kernels: impl Fn(PersistentTarget) -> BTreeMap<String, PersistentKernel>) {
    let mut bad = Vec::new();
    println!(
        "| device | kernel | threads | weights | rows | registers | width | spilled | scratch | s |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for (witness, target) in witnesses() {
        let kernels = kernels(target);
        assert!(kernels.len() >= 4, "{}: {} kernels", witness.name, kernels.len());
        let texts = kernels.iter().map(|(name, kernel)| (name.clone(), kernel.wgsl.clone())).collect();
        let verdicts = witness.compile(&texts, MOST_SECONDS);
        for (name, kernel) in &kernels {
            let Some(verdict) = verdicts.get(name) else {
                bad.push(format!("{} {name}: no answer", witness.name));
                continue;
            };
            println!(
                "| {} | {name} | {} | {} | {} | {} | {} | {} | {} | {:.1} |",
                witness.name,
                kernel.threads,
                kernel.weights,
                kernel.rows,
                verdict.registers,
                verdict.width,
                verdict.spilled,
                verdict.scratch,
                verdict.seconds
            );
            if witness.is_aside {
                continue;
            }
            bad.extend(fault(kernel, verdict).map(|fault| format!("{} {name}: {fault}", witness.name)));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// The test itself: a kernel that cannot but spill is found out.
#[test]
fn a_kernel_that_spills_is_noticed() {
    let lets = |what: &dyn Fn(usize) -> String| (0..400).map(what).collect::<Vec<_>>();
    let text = format!(
        "@group(0) @binding(0) var<storage, read_write> x: array<f32>;\n@compute @workgroup_size(1024)\n\
         fn main(@builtin(local_invocation_index) i: u32) {{\n{}\nworkgroupBarrier();\nx[i] = {};\n}}",
        lets(&|n| format!("let v{n} = x[i * 400u + {n}u];")).join("\n"),
        lets(&|n| format!("v{n} * v{}", (n + 200) % 400)).join(" + "),
    );
    let witness = Witness::amd("navi31");
    let verdicts = witness.compile(&BTreeMap::from([("spills".into(), text)]), MOST_SECONDS);
    assert!(verdicts["spills"].spilled > 0 || verdicts["spills"].scratch > 0, "{verdicts:?}");
}

/// What a child of the tests above does: compiles every file of a folder with the driver that its environment names.
#[test]
#[ignore = "run by the others, with another driver"]
fn compile() {
    let folder = std::env::var_os("TIDEGATE_COMPILE").expect("TIDEGATE_COMPILE names a folder");
    driver::compile_all(&PathBuf::from(folder));
}

/// Kernels by cooperative matrices, which wgpu writes for Vulkan's memory model: what workgroups hand each other goes by atomics alone,
/// and a validator that knows such matrices takes all of it. Debian 12's does not: `tests/spirv_validator` brings one.
#[test]
fn cooperative_matrices_are_valid_spirv() {
    let target = PersistentTarget { matrices: true, ..target("nvidia", 32, 48 << 10, 132) };
    let mut texts = BTreeMap::new();
    for name in ["lstm", "gru", "rnn_tanh"] {
        let cell = tidegate::cell::by_name(name).unwrap();
        for (hidden, batch) in [(512, 16), (600, 9), (1024, 16), (1024, 64)] {
            let kernels = persistent_kernels(&*cell, target, hidden, batch).unwrap();
            assert_eq!(kernels.len(), 2, "{name} {hidden} {batch}");
            for kernel in kernels {
                let name = format!("{name} H{hidden} B{batch}, backward: {}", kernel.backward);
                let (text, exchange) = (&kernel.wgsl, "var<storage, read_write> exchange: array<atomic<u32>>");
                assert!(text.contains("coopMultiplyAdd") && text.contains(exchange) && !text.contains("@volatile"), "{name}");
                texts.insert(name, kernel.wgsl);
            }
        }
    }
    let Some(validator) = witness::Validator::of_matrices() else {
        println!("LEFT OUT: no spirv-val of 2024 or later, cooperative matrices are not validated");
        return;
    };
    let sources = shader_sources(&*tidegate::cell::by_name("lstm").unwrap());
    let products = sources.into_iter().filter(|(entry, _)| *entry == "product/cooperative").enumerate();
    texts.extend(products.map(|(i, (entry, text))| (format!("{entry} {i}"), text)));
    assert!(texts.len() > 200, "{}", texts.len());
    for (name, text) in texts {
        for version in [(1, 3), (1, 6)] {
            let spirv = driver::spirv_of(&text, version).unwrap_or_else(|e| panic!("{name}: {e}"));
            validator.check(&name, &witness::without_known_faults(&spirv), version);
        }
    }
}

/// The languages of Direct3D and Metal, and SPIR-V by its own validator where that is installed.
#[test]
fn other_languages_can_say_it() {
    let mut written = 0;
    let validator = witness::Validator::any();
    if validator.is_none() {
        println!("LEFT OUT: no spirv-val on PATH, SPIR-V is not validated");
    }
    let nvidia = target("nvidia", 32, 32 << 10, 64);
    let by_fours = PersistentTarget { by_fours: true, ..nvidia };
    for target in [nvidia, by_fours, target("apple", 32, 32 << 10, 16), target("other", 0, 32 << 10, 64)] {
        let persistent = kernels(target);
        for (name, kernel) in &persistent {
            assert_eq!(kernel.wgsl.contains("@coherent @volatile"), target.by_fours, "{name}");
            assert_eq!(kernel.wgsl.contains("atomicLoad(&exchange"), !target.by_fours, "{name}");
        }
        for (name, kernel) in persistent.into_iter().chain(unrolled(target)) {
            let spirv = driver::spirv(&kernel.wgsl).unwrap_or_else(|e| panic!("{name}: {e}"));
            // Direct3D knows nothing of volatile buffers.
            let hlsl = driver::hlsl(&kernel.wgsl);
            assert!(hlsl.is_ok() || target.by_fours, "{name}: HLSL: {hlsl:?}");
            let msl = driver::msl(&kernel.wgsl).unwrap_or_else(|e| panic!("{name}: MSL: {e}"));
            assert!(msl.contains("kernel void"), "{name}: {msl}");
            if let Some(validator) = &validator {
                validator.check(&name, &witness::without_known_faults(&spirv), (1, 3));
            }
            written += 1;
        }
    }
    assert!(written >= 8, "{written}");
}
