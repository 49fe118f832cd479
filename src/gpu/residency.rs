//! How many workgroups run side by side, measured: what strategy persistent may count on.

use std::fmt::Write;

#[cfg(not(target_arch = "wasm32"))]
use wgpu::BufferUsages;

use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::owned::OwnedBuffers;
#[cfg(not(target_arch = "wasm32"))]
use crate::gpu::program::{Bound, Dispatch, Role, Slot};
use crate::gpu::shaders::shader;

/// What a plan counts on where nothing was measured: every GPU that runs the strategy at all has as many.
const UNMEASURED: u32 = 8;
/// Workgroups of the roll call: more than persistent ever asks for.
#[cfg(not(target_arch = "wasm32"))]
const MOST: u32 = 1024;
/// Polls of about a microsecond: long enough for all that fit to start, short enough for 2 ms.
#[cfg(not(target_arch = "wasm32"))]
const POLLS: u32 = 1000;
/// Threads of a workgroup, and the words that each keeps: persistent's, whose registers say how many of them fit.
const THREADS: u32 = 256;
const HELD: u32 = 160;
#[cfg(not(target_arch = "wasm32"))]
const WORDS: u64 = 5;

sizes! { RollCallSizes { polls, } }

/// `subgroup` is the smallest that the device may choose, 0 if threads cannot shuffle.
fn source(subgroup: u32) -> KernelSource {
    let mut text = format!(
        "@compute @workgroup_size({THREADS})
fn residency(@builtin(local_invocation_index) thread: u32) {{\n"
    );
    // Atomic, so that no compiler loads them later.
    for i in 0..HELD {
        let _ = writeln!(text, "let h{i} = atomicLoad(&held[thread + {}u]);", i * THREADS);
    }
    text.push_str("if thread == 0u { roll_call(); }\nworkgroupBarrier();\n");
    for mask in (0..8).map(|bit| 1 << bit).take_while(|&mask| mask < subgroup) {
        let _ = writeln!(
            text,
            "if subgroupShuffleXor(thread, {mask}u) != (thread ^ {mask}u) {{ atomicOr(&words[OUT_OF_ORDER], 1u); }}"
        );
    }
    // All of them are 0, which the compiler cannot know.
    let all: Vec<_> = (0..HELD).map(|i| format!("h{i}")).collect();
    let _ = writeln!(text, "if ({}) != 0u {{ atomicStore(&words[SINK], 1u); }}\n}}", all.join(" | "));
    let bindings = [Binding::write("words").of_atomics(), Binding::write("held").of_atomics()];
    KernelSource::new(shader!("prologue/residency"), &[], &bindings, StepIndex::None, RollCallSizes::WGSL).with_text(&text)
}

/// For validation without a device.
pub(crate) fn sources() -> Vec<KernelSource> {
    [0, 32].map(source).into()
}

/// What a roll call found.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RollCall {
    workgroups: u32,
    lanes_in_order: bool,
}

#[cfg(not(target_arch = "wasm32"))]
impl RollCall {
    async fn hold(ctx: &Context, workgroups: u32, polls: u32) -> Result<Self> {
        let owned = OwnedBuffers::default();
        let bytes = u64::from(HELD * THREADS) * 4;
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let words = owned.keep(ctx.create_buffer("tidegate roll call", 4 * WORDS, usage))?;
        let held = owned.keep(ctx.create_buffer("tidegate roll call held", bytes, BufferUsages::STORAGE))?;
        let subgroup = if ctx.subgroups() { ctx.adapter_info().subgroup_min_size } else { 0 };
        let slots = [Slot::whole(Role::Status, WORDS), Slot::whole(Role::Workspace, bytes / 4)];
        let sizes = RollCallSizes { polls };
        let dispatch = Dispatch::new(ctx, ctx.kernel(source(subgroup)), &slots, &sizes, [workgroups.into(), 1, 1])?;
        let bound = Bound::new(ctx, &[dispatch.into()], |role| match role {
            Role::Status => Some(words.as_entire_buffer_binding()),
            Role::Workspace => Some(held.as_entire_buffer_binding()),
            _ => None,
        })?;
        let mut encoder = ctx.encoder("tidegate roll call");
        bound.record(&mut encoder.begin_compute_pass(&Default::default()));
        ctx.submit(encoder)?;
        let [found] = ctx.download([&words]).await?;
        Ok(Self { workgroups: found[2].to_bits(), lanes_in_order: found[3].to_bits() == 0 })
    }
}

impl Context {
    /// Finds out how many workgroups run side by side on this device, and tells: what
    /// [`Strategy::Persistent`](crate::Strategy::Persistent) may count on in plans from here on. One submit of less than 2 ms once the
    /// kernel is built; later calls only tell. A [`Tuning`](crate::Tuning) keeps it. A CPU adapter has its threads, and a device that
    /// cannot run the strategy isn't asked.
    ///
    /// [`Rnn`](crate::Rnn)'s calls on host data, [`Session`](crate::Session) and [`Trainer`](crate::train::Trainer) do it themselves.
    /// An app that only encodes may; else a plan counts on 8 workgroups, too few for large networks. Where a later dispatch finds
    /// fewer side by side, plans from then on count on those; a plan that is bound never changes, and its dispatches are repaired.
    pub async fn measure_residency(&self) -> Result<u32> {
        // No browser runs the strategy.
        #[cfg(not(target_arch = "wasm32"))]
        if self.has_indirect() && !self.shared().is_measured() {
            let found = if self.is_software() {
                // Only a test of its lanes: how many of its threads are free changes from moment to moment.
                RollCall { workgroups: self.side_by_side(), ..RollCall::hold(self, 1, 0).await? }
            } else {
                RollCall::hold(self, MOST, POLLS).await?
            };
            self.shared().learn_lanes(found.lanes_in_order);
            self.learn_residency(found.workgroups);
        }
        Ok(self.side_by_side())
    }

    /// Workgroups that a plan may count on.
    pub(crate) fn side_by_side(&self) -> u32 {
        let threads = || std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        match self.shared().workgroups() {
            Some(known) => known,
            None if self.is_software() => threads(),
            None => UNMEASURED,
        }
    }

    /// The same where it was measured, natively on Vulkan with subgroups of 8 or more: what strategy persistent may be chosen by without a tuning.
    pub(crate) fn measured_side_by_side(&self) -> Option<u32> {
        let vulkan = self.adapter_info().backend == wgpu::Backend::Vulkan;
        self.shared().workgroups().filter(|_| !self.is_software() && vulkan && self.subgroups())
    }

    /// Takes over what was measured, now or before, unless something is known.
    pub(crate) fn learn_residency(&self, workgroups: u32) {
        self.shared().learn_workgroups(workgroups);
    }

    /// After a dispatch whose workgroups weren't all there: no more than came are counted on.
    pub(crate) fn lower_residency(&self, came: u32) {
        if came > 0 && came < self.side_by_side() {
            self.shared().lower_workgroups(came);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        pollster::block_on(Context::request()).expect("this needs an adapter")
    }

    #[test]
    fn a_roll_call_counts_those_that_wait_together() {
        let ctx = context();
        let hold = |workgroups, polls| pollster::block_on(RollCall::hold(&ctx, workgroups, polls)).unwrap();
        // On a CPU adapter its threads, of which a busy machine may not run all.
        for workgroups in [1, 4096] {
            let found = hold(workgroups, if ctx.is_software() { 1 << 20 } else { POLLS });
            assert!(found.workgroups >= 1 && found.workgroups <= workgroups && found.lanes_in_order, "{found:?}");
            let threads = std::thread::available_parallelism().unwrap().get() as u32;
            assert!(!ctx.is_software() || found.workgroups <= threads.max(workgroups.min(32)), "{found:?}");
        }
    }

    #[test]
    fn what_is_known_is_not_measured_again_and_only_falls() {
        let ctx = context();
        if !ctx.is_software() {
            assert_eq!(ctx.side_by_side(), UNMEASURED);
        }
        let found = pollster::block_on(ctx.measure_residency()).unwrap();
        assert!(found >= 1);
        assert_eq!(ctx.side_by_side(), found);
        ctx.learn_residency(found + 100);
        assert_eq!(pollster::block_on(ctx.measure_residency()).unwrap(), found);
        ctx.lower_residency(found + 1);
        assert_eq!(ctx.side_by_side(), found);
        ctx.lower_residency(1);
        assert_eq!(pollster::block_on(ctx.clone().measure_residency()).unwrap(), 1);
    }
}
