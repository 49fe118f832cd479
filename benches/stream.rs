//! What one step of a stream (T = 1, B = 1, the state kept on the GPU, between two buffers by turns) costs the CPU, part by part:
//! microseconds, the median over many steps.
//!
//! - `open`: the creation of an encoder and of a compute pass.
//! - `record`: `Forward::dispatch` into the open pass. wgpu only notes the commands there.
//! - `finish`: the end of the pass and of the encoder, in which wgpu checks the commands and passes them to the driver.
//! - `submit`: `Queue::submit`, without waiting. The next step begins when the GPU has finished this one, which is not timed.
//!
//! Two reads of the clock are in every figure: tens of nanoseconds.

use std::time::Instant;

use tidegate::cell::by_name;
use tidegate::{Context, Forward, ForwardBuffers, Mode, Params, Result, Rnn, RnnConfig, SeqShape};
use wgpu::{Buffer, BufferUsages};

const HIDDEN: usize = 128;
const STEPS: usize = 10_000;
/// Without `--bench`, which `cargo bench` passes: only that it runs.
const STEPS_IN_TEST: usize = 3;
const PARTS: [&str; 4] = ["open", "record", "finish", "submit"];

fn main() -> Result<()> {
    let steps = if std::env::args().any(|arg| arg == "--bench") { STEPS } else { STEPS_IN_TEST };
    let ctx = pollster::block_on(Context::request())?;
    let info = ctx.adapter_info();
    println!("{}, {} {}: CPU µs of one step, median of {steps}", info.name, info.driver, info.driver_info);
    println!("{:<16} {:>10} {:>8} {:>8} {:>8} {:>8}", "network", "dispatches", PARTS[0], PARTS[1], PARTS[2], PARTS[3]);
    for name in ["lstm", "gru"] {
        for layers in [1, 2] {
            let forwards = bind(&ctx, name, layers)?;
            let [open, record, finish, submit] = measure(&ctx, &forwards, steps)?;
            let network = format!("{name} H={HIDDEN} L={layers}");
            println!("{network:<16} {:>10} {open:>8.2} {record:>8.2} {finish:>8.2} {submit:>8.2}", forwards[0].dispatches());
        }
    }
    Ok(())
}

/// One step from either state to the other.
fn bind(ctx: &Context, name: &str, layers: usize) -> Result<[Forward; 2]> {
    let rnn = Rnn::new(ctx, by_name(name)?, RnnConfig::new(HIDDEN, HIDDEN).with_num_layers(layers))?;
    let plan = rnn.plan(SeqShape { seq_len: 1, batch_size: 1 }, Mode::Inference)?;
    let sizes = plan.sizes();
    let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1))?;
    let input = ctx.upload("input", &vec![0.5f32; HIDDEN])?;
    let create = |label, size| ctx.create_buffer(label, size, BufferUsages::STORAGE);
    let [output, workspace] = [create("output", sizes.output)?, create("workspace", sizes.workspace)?];
    let states = [create("state", sizes.state)?, create("state", sizes.state)?];
    let whole = Buffer::as_entire_buffer_binding;
    let from_to = |from, to| {
        plan.bind_forward(&ForwardBuffers {
            initial_state: Some(whole(from)),
            final_state: Some(whole(to)),
            ..ForwardBuffers::new(whole(&params), whole(&input), whole(&output), whole(&workspace))
        })
    };
    Ok([from_to(&states[0], &states[1])?, from_to(&states[1], &states[0])?])
}

/// Medians of the parts, in microseconds.
fn measure(ctx: &Context, forwards: &[Forward; 2], steps: usize) -> Result<[f64; PARTS.len()]> {
    let mut times = [const { Vec::new() }; PARTS.len()];
    for step in 0..steps {
        let mut clock = Clock(Instant::now());
        let mut encoder = ctx.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let open = clock.lap();
        forwards[step % 2].dispatch(&mut pass);
        let record = clock.lap();
        drop(pass);
        let commands = encoder.finish();
        let finish = clock.lap();
        ctx.queue().submit([commands]);
        let submit = clock.lap();
        ctx.wait()?;
        for (times, time) in times.iter_mut().zip([open, record, finish, submit]) {
            times.push(time);
        }
    }
    Ok(times.map(median))
}

struct Clock(Instant);

impl Clock {
    /// Microseconds since the last call.
    fn lap(&mut self) -> f64 {
        let before = std::mem::replace(&mut self.0, Instant::now());
        (self.0 - before).as_secs_f64() * 1e6
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
