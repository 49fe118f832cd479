//! Times every blocking of bulk products at the shapes of large GPUs, f32 and by cooperative matrices where the adapter has them, and
//! checks a sample of each result.
//!
//!     cargo bench --features tools --bench tiles                # all, under a minute on a large GPU
//!     cargo bench --features tools --bench tiles -- 128x128     # those whose names contain one of the arguments
//!     SHRINK=32 cargo bench --features tools --bench tiles      # all dimensions divided, for a small device

use std::collections::BTreeMap;
use std::time::Instant;

use tidegate::Context;
use tidegate::sweep::{Options, sweep};
use wgpu::Features;

/// On the adapter that wgpu prefers, with cooperative matrices if it has them.
fn open() -> tidegate::Result<Context> {
    pollster::block_on(async {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        let options =
            wgpu::RequestAdapterOptions { power_preference: wgpu::PowerPreference::HighPerformance, ..Default::default() };
        let adapter = instance.request_adapter(&options).await?;
        let cooperative = adapter.features() & Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let descriptor = wgpu::DeviceDescriptor {
            required_features: Context::wanted_features(&adapter) | cooperative,
            required_limits: Context::wanted_limits(&adapter),
            // SAFETY: the token says that we know of wgpu's experimental features that they may have bugs; results are checked.
            experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await?;
        Context::from_device(&adapter, &device, &queue)
    })
}

fn main() -> tidegate::Result<()> {
    let start = Instant::now();
    let ctx = open()?;
    let info = ctx.adapter_info();
    println!("{}, {} {}", info.name, info.driver, info.driver_info);
    let mut only: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    // `cargo test` leaves `--bench` out, as criterion's benchmarks know: then one variant shows that it works.
    let once = !std::env::args().any(|arg| arg == "--bench");
    if once && only.is_empty() {
        only.push("32x32 of 4x4, k 16, 1 slices, 2".into());
    }
    let default = if once { 64 } else { 1 };
    let shrink = std::env::var("SHRINK").ok().and_then(|value| value.parse().ok()).unwrap_or(default).max(1);
    let options = Options { shrink, only, warm: if once { 0.0 } else { 0.4 } };
    let mut best: BTreeMap<(String, bool), (f64, String)> = BTreeMap::new();
    println!("{:<52} {:<20} {:>10} {:>9} {:>9} {:>8}", "variant", "product", "us", "TFLOP/s", "error", "compile");
    sweep(&ctx, &options, |row| match row {
        Err(reason) => println!("{reason}"),
        Ok(row) => {
            let (us, compile) = (row.seconds * 1e6, row.compile);
            println!("{:<52} {:<20} {us:>10.1} {:>9.2} {:>9.1e} {compile:>8.2}", row.variant, row.case, row.teraflops, row.error);
            let right = row.error < 1e-4;
            let best = best.entry((row.case, row.variant.starts_with("f16"))).or_default();
            if right && row.teraflops > best.0 {
                *best = (row.teraflops, row.variant);
            }
        }
    })?;
    println!("best of each, where the results are right; {:.0} s in all", start.elapsed().as_secs_f64());
    for ((case, _), (teraflops, variant)) in best {
        println!("{case:<20} {teraflops:>9.2} {variant}");
    }
    Ok(())
}
