//! What both benchmarks share: a clock for recorded work, and a network bound to buffers of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use tidegate::{
    Backward, BackwardBuffers, Cell, Context, Forward, ForwardBuffers, Mode, Params, Rnn, RnnConfig, SeqShape, Strategy,
};
use wgpu::{Buffer, BufferUsages, ComputePass};

/// Few samples of about a second in all, so that both benchmarks end within two minutes on a software adapter.
pub fn criterion() -> Criterion {
    Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

/// The device, and how time is taken on it.
pub struct Bench {
    pub ctx: Context,
    timestamps: Option<Timestamps>,
}

struct Timestamps {
    queries: wgpu::QuerySet,
    resolved: Buffer,
    staging: Buffer,
}

/// Two timestamps of 8 bytes: begin and end of a pass.
const TIMESTAMP_BYTES: u64 = 16;

impl Bench {
    pub fn new() -> Self {
        let ctx = pollster::block_on(Context::request()).expect("benchmarks need an adapter");
        let device = ctx.device();
        let timestamps = device.features().contains(wgpu::Features::TIMESTAMP_QUERY).then(|| Timestamps {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(&ctx, "timestamps", TIMESTAMP_BYTES, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC),
            staging: buffer(&ctx, "timestamps staging", TIMESTAMP_BYTES, BufferUsages::COPY_DST | BufferUsages::MAP_READ),
        });
        let bench = Self { ctx, timestamps };
        let info = bench.ctx.adapter_info();
        println!("{}, {} {}: {} time", info.name, info.driver, info.driver_info, bench.clock());
        bench
    }

    /// `gpu`: from begin to end of the pass, by the device's clock. `wall`: from the submit until all is done, by the host's.
    pub fn clock(&self) -> &'static str {
        if self.timestamps.is_some() { "gpu" } else { "wall" }
    }

    /// How long one compute pass takes.
    pub fn time(&self, record: impl Fn(&mut ComputePass<'_>)) -> Duration {
        let mut encoder = self.ctx.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let timestamp_writes = self.timestamps.as_ref().map(|t| wgpu::ComputePassTimestampWrites {
            query_set: &t.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        });
        record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes }));
        if let Some(t) = &self.timestamps {
            encoder.resolve_query_set(&t.queries, 0..2, &t.resolved, 0);
            encoder.copy_buffer_to_buffer(&t.resolved, 0, &t.staging, 0, TIMESTAMP_BYTES);
        }
        let commands = encoder.finish();

        let start = Instant::now();
        self.ctx.queue().submit([commands]);
        self.ctx.wait().expect("the device finishes");
        let wall = start.elapsed();

        let Some(t) = &self.timestamps else { return wall };
        t.staging.map_async(wgpu::MapMode::Read, .., |mapped| mapped.expect("timestamps can be mapped"));
        self.ctx.wait().expect("the device finishes");
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&t.staging.get_mapped_range(..).expect("timestamps are mapped"));
        t.staging.unmap();
        let nanoseconds = f64::from(self.ctx.queue().get_timestamp_period()) * ticks[1].saturating_sub(ticks[0]) as f64;
        Duration::from_nanos(nanoseconds as u64)
    }
}

fn buffer(ctx: &Context, label: &str, size: u64, usage: BufferUsages) -> Buffer {
    ctx.device().create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
}

/// Forward and backward of a training plan, one dispatch per step, bound and run once, so that every pipeline is compiled.
pub struct Passes {
    pub forward: Forward,
    pub backward: Backward,
}

impl Passes {
    /// `d_input` says whether backward computes the gradient of the input too.
    pub fn new(bench: &Bench, cell: Arc<dyn Cell>, config: RnnConfig, shape: SeqShape, d_input: bool) -> tidegate::Result<Self> {
        let ctx = &bench.ctx;
        let rnn = Rnn::new(ctx, cell, config)?.with_strategy(Strategy::Stepwise);
        let plan = rnn.plan(shape, Mode::Training)?;
        let sizes = plan.sizes();
        // Values like those of real data: zeros and denormals may run at another speed.
        let data = |label, bytes: u64| ctx.upload(label, &(0..bytes / 4).map(|k| (k as f32).sin()).collect::<Vec<_>>());
        let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1))?;
        let (input, d_output) = (data("input", sizes.input)?, data("d_output", sizes.output)?);
        let scratch = |label, size| buffer(ctx, label, size, BufferUsages::STORAGE);
        let (output, workspace) = (scratch("output", sizes.output), scratch("workspace", sizes.workspace));
        let (gradient, d_params) = (scratch("d_input", sizes.input), scratch("d_params", sizes.params));
        let reserve = (sizes.reserve > 0).then(|| scratch("reserve", sizes.reserve));
        let forward = ForwardBuffers {
            reserve: reserve.as_ref().map(Buffer::as_entire_buffer_binding),
            ..ForwardBuffers::new(
                params.as_entire_buffer_binding(),
                input.as_entire_buffer_binding(),
                output.as_entire_buffer_binding(),
                workspace.as_entire_buffer_binding(),
            )
        };
        let backward = BackwardBuffers {
            forward: forward.clone(),
            d_output: d_output.as_entire_buffer_binding(),
            d_final_state: None,
            d_params: d_params.as_entire_buffer_binding(),
            d_input: d_input.then(|| gradient.as_entire_buffer_binding()),
            d_initial_state: None,
            accumulate: false,
        };
        let passes = Self { forward: plan.bind_forward(&forward)?, backward: plan.bind_backward(&backward)? };
        bench.time(|pass| passes.forward.dispatch(pass));
        bench.time(|pass| passes.backward.dispatch(pass));
        Ok(passes)
    }
}
