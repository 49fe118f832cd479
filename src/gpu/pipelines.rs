//! The kernels of a device by their source, and their pipelines: each compiled once, several side by side.

use std::collections::HashMap;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wgpu::WasmNotSync;

use crate::error::Result;
use crate::gpu::kernel::{Kernel, KernelSource};

/// Keyed by the whole WGSL text.
#[derive(Default)]
pub(super) struct Pipelines(Mutex<HashMap<String, Arc<Kernel>>>);

impl Pipelines {
    /// How many have a pipeline.
    #[cfg(all(test, feature = "tools"))]
    pub fn built(&self) -> usize {
        let kernels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kernels.values().filter(|kernel| kernel.built().is_some()).count()
    }

    /// The kernel of that source, the same each time; `adjust` is what its text becomes before it is compiled.
    pub fn kernel(&self, source: KernelSource, adjust: impl FnOnce(KernelSource) -> KernelSource) -> Arc<Kernel> {
        let mut kernels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kernels.get(&source.wgsl) {
            return kernel.clone();
        }
        let text = source.wgsl.clone();
        let kernel = Arc::new(Kernel::new(adjust(source)));
        kernels.insert(text, kernel.clone());
        kernel
    }
}

/// Builds the pipelines of these kernels that have none yet: natively side by side, on as many threads as there are.
pub(super) fn compile<'a>(
    kernels: impl Iterator<Item = &'a Arc<Kernel>>,
    build: impl Fn(&Kernel) -> Result<()> + WasmNotSync,
) -> Result<()> {
    let mut missing: Vec<&Arc<Kernel>> = Vec::new();
    for kernel in kernels {
        if kernel.built().is_none() && !missing.iter().any(|known| Arc::ptr_eq(known, kernel)) {
            missing.push(kernel);
        }
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
        if threads > 1 {
            let next = AtomicUsize::new(0);
            let work = || {
                let of_thread = || missing.get(next.fetch_add(1, Ordering::Relaxed));
                std::iter::from_fn(of_thread).try_for_each(|kernel| build(kernel))
            };
            return std::thread::scope(|scope| {
                let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
                let results = std::iter::once(work()).chain(others.into_iter().map(|other| match other.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                }));
                results.collect::<Vec<_>>().into_iter().collect()
            });
        }
    }
    missing.into_iter().try_for_each(|kernel| build(kernel))
}
