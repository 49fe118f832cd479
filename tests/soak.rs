//! Thousands of plans, calls, sessions and trainers, another shape each time: nothing of them stays behind, and at the end the same
//! numbers give the same bits as at the start. 20 seconds after the warm-up; `TIDEGATE_SOAK_SECONDS` gives others. What a device keeps for
//! good, such as pipelines of a kind not met before, may come with a first call of its shape, but not with a second one.

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::calls::{Made, Networks};
use tidegate::Context;
use wgpu::{DeviceDescriptor, Limits};

/// The calls that are made once more at the end.
const REPLAYED: u64 = 40;
/// What the process may grow by, however long it runs: the allocator's and the driver's caches fill slowly.
const MOST_GROWTH: i64 = 16 << 20;

/// What a device keeps for good, once for each kind.
const KEPT: [&str; 4] = ["bind group layouts", "pipeline layouts", "pipelines", "shader modules"];
/// wgpu keeps encoders for further use, as many as submits overlapped at once: that is up to time.
const MOST_ENCODERS: i64 = 4;

/// What a device holds, by wgpu's own count.
fn counters(ctx: &Context) -> [(&'static str, i64); 9] {
    let hal = ctx.device().get_internal_counters().hal;
    [
        ("buffers", &hal.buffers),
        ("bytes of buffers", &hal.buffer_memory),
        ("bind groups", &hal.bind_groups),
        ("bind group layouts", &hal.bind_group_layouts),
        ("pipeline layouts", &hal.pipeline_layouts),
        ("pipelines", &hal.compute_pipelines),
        ("shader modules", &hal.shader_modules),
        ("command encoders", &hal.command_encoders),
        ("fences", &hal.fences),
    ]
    .map(|(name, counter)| (name, counter.read() as i64))
}

/// Bytes of the process that are in memory; nothing where the system does not tell.
fn resident_bytes() -> Option<i64> {
    let pages: i64 = std::fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn seconds() -> Duration {
    match std::env::var("TIDEGATE_SOAK_SECONDS") {
        Ok(text) => Duration::from_secs(text.parse().expect("TIDEGATE_SOAK_SECONDS is a number of seconds")),
        Err(_) => Duration::from_secs(20),
    }
}

/// A device with no feature and WebGPU's limits, on which step indices come from a table.
fn plain() -> Context {
    let adapter = common::adapter();
    let required_limits = Limits::default().or_worse_values_from(&adapter.limits());
    let descriptor = DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Context::from_device(&adapter, &device, &queue).unwrap()
}

#[test]
fn nothing_stays_behind() {
    let both = [common::own_context(), plain()].map(|ctx| Networks::new(&ctx));
    let call = |number: u64| both[(number % 2) as usize].call(number);
    let state = || {
        both.each_ref().map(|networks| {
            networks.context().wait().unwrap();
            counters(networks.context())
        })
    };
    let start = Instant::now();
    both.iter().for_each(Networks::warm_up);
    let first: Vec<Made> = (0..REPLAYED).map(call).collect();
    let (before, resident) = (state(), resident_bytes());
    println!("warm after {:.0} s", start.elapsed().as_secs_f64());

    let (start, mut number, mut kinds) = (Instant::now(), REPLAYED, HashMap::new());
    while start.elapsed() < seconds() / 2 {
        *kinds.entry(call(number).kind).or_insert(0) += 1;
        number += 1;
    }
    // The same calls once more: whatever is kept for good is there.
    let once = state();
    for again in (REPLAYED..number).rev() {
        call(again);
    }
    println!("{} calls twice in {:.0} s: {kinds:?}", number - REPLAYED, start.elapsed().as_secs_f64());
    let after = state();
    for ((before, after), device) in before.iter().zip(&after).zip(["own", "plain"]) {
        for ((name, before), (_, after)) in before.iter().zip(after) {
            println!("{device} device: {name}: {before}, then {after}");
        }
    }
    let grew = |[before, after]: [&[[(&'static str, i64); 9]; 2]; 2], counted: &dyn Fn(&str) -> bool| {
        for ((name, before), (_, after)) in before.iter().flatten().zip(after.iter().flatten()) {
            let most = if *name == "command encoders" { MOST_ENCODERS } else { 0 };
            assert!(!counted(name) || after - before <= most, "{name}: {before}, then {after}");
        }
    };
    grew([&once, &after], &|_| true);
    grew([&before, &after], &|name| !KEPT.contains(&name));
    if let (Some(before), Some(after)) = (resident, resident_bytes()) {
        println!("memory: {:.1} MiB, then {:.1} MiB", before as f64 / 1_048_576.0, after as f64 / 1_048_576.0);
        assert!(after - before <= MOST_GROWTH, "memory grew from {before} to {after} bytes");
    }

    let mut compared = 0;
    for (number, first) in (0..).zip(first) {
        let again = call(number);
        if let (Some(first), Some(again)) = (first.digest, again.digest) {
            assert_eq!(first, again, "bits of call {number}: {:?} under {:?}", again, call(number).strategy);
            compared += 1;
        }
    }
    println!("{compared} of {REPLAYED} calls gave the same bits again");
    assert!(2 * compared >= REPLAYED, "only {compared} of {REPLAYED} calls can be compared");
}
