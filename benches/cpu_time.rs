//! CPU time of suite quick's workloads on a software adapter, which a busy machine changes far less than the time by the clock.
//!
//! `cargo bench --bench cpu_time --profile dev -- 0.6`: so many runs of each, by a factor. Prints ms a run: all threads' CPU time, and by the
//! clock. Two builds are compared in turns. Linux alone.

use std::time::Instant;

use tidegate::cell::by_name;
use tidegate::{Context, Mode, Params, Result, Rnn, RnnConfig, SeqShape};

/// Cell, I = H, layers, T, B; whether it trains; runs.
const WORKLOADS: [(&str, usize, usize, usize, usize, bool, f64); 16] = [
    ("lstm", 64, 1, 32, 1, false, 300.0),
    ("lstm", 64, 1, 32, 1, true, 120.0),
    ("lstm", 128, 1, 64, 8, false, 40.0),
    ("lstm", 128, 1, 64, 8, true, 12.0),
    ("lstm", 256, 1, 64, 16, false, 6.0),
    ("lstm", 256, 1, 64, 16, true, 2.0),
    ("gru", 64, 1, 32, 1, false, 300.0),
    ("gru", 64, 1, 32, 1, true, 120.0),
    ("gru", 128, 1, 64, 8, false, 40.0),
    ("gru", 128, 1, 64, 8, true, 12.0),
    ("gru", 256, 1, 64, 16, false, 6.0),
    ("gru", 256, 1, 64, 16, true, 2.0),
    ("rnn_tanh", 256, 1, 64, 16, false, 20.0),
    ("rnn_tanh", 256, 1, 64, 16, true, 6.0),
    ("lstm", 128, 2, 64, 8, false, 20.0),
    ("lstm", 128, 2, 64, 8, true, 6.0),
];

/// Seconds that all threads ran so far.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let ran = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok());
    ran.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1e9
}

fn main() -> Result<()> {
    let factor = std::env::args().skip(1).find_map(|arg| arg.parse::<f64>().ok()).unwrap_or(1.0);
    let ctx = pollster::block_on(Context::request())?;
    for (cell, size, layers, seq_len, batch_size, trains, runs) in WORKLOADS {
        let rnn = Rnn::new(&ctx, by_name(cell)?, RnnConfig::new(size, size).with_num_layers(layers))?;
        let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1))?;
        let shape = SeqShape { seq_len, batch_size };
        let plan = rnn.plan(shape, if trains { Mode::Training } else { Mode::Inference })?;
        let values: Vec<f32> = (0..shape.rows() * size).map(|i| ((i * 7919 % 1013) as f32 / 500.0 - 1.0) * 0.9).collect();
        let (input, d_output) = (ctx.upload("input", &values)?, ctx.upload("d_output", &values)?);
        let (buffers, gradients) = (plan.allocate()?, plan.allocate_gradients()?);
        let forward = plan.bind_forward(&buffers.forward(&params, &input))?;
        let backward = trains.then(|| plan.bind_backward(&gradients.backward(buffers.forward(&params, &input), &d_output)));
        let backward = backward.transpose()?;
        let run = || {
            let mut encoder = ctx.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            forward.encode(&mut encoder);
            if let Some(backward) = &backward {
                backward.encode(&mut encoder);
            }
            ctx.queue().submit([encoder.finish()]);
            ctx.wait()
        };
        (0..2).try_for_each(|_| run())?;
        let runs = (runs * factor).max(1.0) as usize;
        let (cpu, clock) = (cpu_seconds(), Instant::now());
        (0..runs).try_for_each(|_| run())?;
        let [cpu, clock] = [cpu_seconds() - cpu, clock.elapsed().as_secs_f64()].map(|seconds| seconds / runs as f64 * 1e3);
        let mode = if trains { "train" } else { "infer" };
        println!("{cell} {size} L{layers} T{seq_len} B{batch_size} {mode}\t{cpu:.4}\t{clock:.4}");
    }
    Ok(())
}
