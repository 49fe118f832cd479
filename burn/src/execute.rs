//! tidegate's plans on Burn's queue.
//!
//! A pass is one submit, after what Burn had pending: copies from Burn's tensors into tidegate's buffers, the plan, copies into fresh
//! tensors. The copies are there because Burn's tensors are slices of pooled buffers, which a dispatch cannot read in one place and
//! write in another. Nothing waits for the GPU.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::{AutoCompiler, CubeDevice, DType};
use burn::tensor::Shape;
use burn::tensor::wgpu::wgpu;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::server::Handle;
use burn_cubecl::cubecl::wgpu::WgpuServer;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use tidegate::{Mode, SeqShape};
use wgpu::{Buffer, CommandEncoder};

use crate::device::Engine;
use crate::error::{Error, Result};
use crate::network::{Given, Network, SlotGuard, Wanted};

/// A network at a shape, and what a call of it has.
pub(crate) struct Job {
    pub engine: Arc<Engine>,
    pub network: Arc<Network>,
    pub shape: SeqShape,
    pub given: Given,
    /// S
    pub states: usize,
    /// `[T, B, I]` or batch-first.
    pub input: [usize; 3],
    /// `[T, B, D·H]` or batch-first.
    pub output: [usize; 3],
    /// `[L·D, B, H]`
    pub state: [usize; 3],
    /// Shapes of Burn's weights.
    pub weights: Vec<Shape>,
    /// 4, or 2 without biases.
    pub weights_of_gate: usize,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("network", &self.network).field("shape", &self.shape).finish()
    }
}

/// What forward keeps for its backward.
#[derive(Clone, Default)]
pub(crate) struct Saved(Arc<Mutex<Option<SlotGuard>>>);

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Saved")
    }
}

/// Something to run on Burn's tensors, now or when its turn comes.
#[cfg_attr(not(feature = "fusion"), expect(dead_code, reason = "fusion alone asks for names and shapes"))]
pub(crate) trait Work: fmt::Debug + Send + Sync {
    /// For Burn's logs.
    fn name(&self) -> &'static str;
    /// Shapes of what it gives.
    fn outputs(&self) -> Vec<Shape>;
    /// `inputs` as the work was made for; all are f32 but `lengths`.
    fn run(&self, inputs: Vec<CubeTensor>, lengths: Option<CubeTensor>) -> Result<Vec<CubeTensor>>;
}

/// Inputs: x, the weights, then h and c if there are initial states. Outputs: y, h and c, and in training a token: one zero, for backward to
/// depend on.
#[derive(Debug)]
pub(crate) struct ForwardWork {
    pub job: Arc<Job>,
    /// Where to leave what backward needs; without it the pass is for inference.
    pub saved: Option<Saved>,
}

impl Work for ForwardWork {
    fn name(&self) -> &'static str {
        "tidegate_forward"
    }

    fn outputs(&self) -> Vec<Shape> {
        let states = (0..self.job.states).map(|_| self.job.state);
        let tensors = std::iter::once(self.job.output).chain(states).map(Shape::from);
        tensors.chain(self.saved.is_some().then(|| Shape::new([1]))).collect()
    }

    fn run(&self, inputs: Vec<CubeTensor>, lengths: Option<CubeTensor>) -> Result<Vec<CubeTensor>> {
        let job = &*self.job;
        let mode = if self.saved.is_some() { Mode::Training } else { Mode::Inference };
        let planned = job.network.plan(job.shape, mode)?;
        let mut guard = planned.slot(&job.engine)?;
        let mut inputs = inputs.into_iter();
        let x = inputs.next().expect("every call has an input");
        let mut pass = Pass::new(&job.engine, &x);
        let slot = guard.get();
        pass.copy_in(x, &slot.input, 0)?;
        for (place, weight) in planned.pack.places().iter().zip(inputs.by_ref()) {
            pass.copy_in(weight, planned.pack.staged(), place.0)?;
        }
        planned.pack.pack(&mut pass.encoder, &job.engine.pack, &slot.pack);
        let half = planned.sizes().state / job.states as u64;
        for (index, state) in inputs.enumerate() {
            pass.copy_in(state, &slot.initial_state, index as u64 * half)?;
        }
        if let Some(lengths) = lengths {
            pass.copy_in(lengths, &slot.lengths, 0)?;
        }
        slot.forward(&planned, job.given)?.encode(&mut pass.encoder);
        let mut outputs = vec![pass.copy_out(&slot.output, 0, job.output.into())?];
        for index in 0..job.states as u64 {
            outputs.push(pass.copy_out(&planned.final_state, index * half, job.state.into())?);
        }
        if self.saved.is_some() {
            outputs.push(pass.zero()?);
        }
        pass.submit()?;
        if let Some(saved) = &self.saved {
            *saved.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
        }
        Ok(outputs)
    }
}

/// Inputs: those of d_y, d_h and d_c that there are, and forward's token, so that forward has run. Outputs: those of d_x, d_h and d_c that are asked for, then the weights'.
#[derive(Debug)]
pub(crate) struct BackwardWork {
    pub job: Arc<Job>,
    pub saved: Saved,
    /// Of y, h, c: which gradients come in.
    pub received: [bool; 3],
    pub wants_input: bool,
    pub wants_states: bool,
}

impl Work for BackwardWork {
    fn name(&self) -> &'static str {
        "tidegate_backward"
    }

    fn outputs(&self) -> Vec<Shape> {
        let input = self.wants_input.then_some(self.job.input);
        let states = if self.wants_states { self.job.states } else { 0 };
        let tensors = input.into_iter().chain((0..states).map(|_| self.job.state));
        tensors.map(Shape::from).chain(self.job.weights.iter().cloned()).collect()
    }

    fn run(&self, inputs: Vec<CubeTensor>, _: Option<CubeTensor>) -> Result<Vec<CubeTensor>> {
        let job = &*self.job;
        let taken = self.saved.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut guard = taken.ok_or_else(|| Error::Server("forward failed, so there is nothing to go backward on".into()))?;
        let planned = guard.home.clone();
        let to = planned.gradients(&job.engine)?;
        let mut pass = Pass::new(&job.engine, &inputs[0]);
        let half = planned.sizes().state / job.states as u64;
        let mut inputs = inputs.into_iter();
        let final_state = self.received[1] || self.received[2];
        for (index, received) in self.received.iter().enumerate().take(1 + job.states) {
            let (dst, offset, bytes) = match index {
                0 => (&to.d_output, 0, planned.sizes().output),
                _ => (&to.d_final_state, (index - 1) as u64 * half, half),
            };
            match inputs.next_if_some(*received) {
                Some(gradient) => pass.copy_in(gradient, dst, offset)?,
                None if index == 0 || final_state => pass.encoder.clear_buffer(dst, offset, Some(bytes)),
                None => {}
            }
        }
        let wanted = Wanted { final_state, input: self.wants_input, initial_state: self.wants_states };
        let slot = guard.get();
        slot.backward(&planned, job.given, wanted, &to)?.encode(&mut pass.encoder);
        planned.pack.unpack(&mut pass.encoder, &job.engine.pack, &to.unpack);
        let mut outputs = Vec::new();
        if self.wants_input {
            outputs.push(pass.copy_out(&to.d_input, 0, job.input.into())?);
        }
        for index in 0..if self.wants_states { job.states } else { 0 } {
            outputs.push(pass.copy_out(&to.d_initial_state, index as u64 * half, job.state.into())?);
        }
        for (place, shape) in planned.pack.places().iter().zip(&job.weights) {
            outputs.push(pass.copy_out(planned.pack.staged(), place.0, shape.clone())?);
        }
        pass.submit()?;
        Ok(outputs)
    }
}

/// `next` where there is one to take.
trait NextIfSome: Iterator {
    fn next_if_some(&mut self, there: bool) -> Option<Self::Item> {
        if there { self.next() } else { None }
    }
}

impl<I: Iterator> NextIfSome for I {}

/// One recording.
struct Pass<'a> {
    engine: &'a Engine,
    client: Client,
    device: CubeDevice,
    encoder: CommandEncoder,
    /// Tensors that are read or written, and their memory, which cubecl leaves in place while they are here.
    held: Vec<(CubeTensor, Box<dyn Any>)>,
}

/// Where a tensor's elements are, and what keeps them there.
struct Memory {
    buffer: Buffer,
    offset: u64,
    lease: Box<dyn Any>,
}

impl<'a> Pass<'a> {
    fn new(engine: &'a Engine, like: &CubeTensor) -> Self {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("tidegate_burn") };
        let encoder = engine.ctx.device().create_command_encoder(&descriptor);
        Self { engine, client: like.client.clone(), device: like.device.clone(), encoder, held: Vec::new() }
    }

    /// The memory behind a tensor. What writes it is then recorded in Burn's own encoder, and submitted by `submit`.
    fn resolve(&self, handle: Handle) -> Result<Memory> {
        let lease = self.client.get_resource::<WgpuServer<AutoCompiler>>(handle);
        let lease = lease.map_err(|error| Error::Server(error.to_string()))?;
        let (buffer, offset) = (lease.resource().buffer.clone(), lease.resource().offset);
        Ok(Memory { buffer, offset, lease: Box::new(lease) })
    }

    fn copy_in(&mut self, tensor: CubeTensor, dst: &Buffer, offset: u64) -> Result<()> {
        let tensor = into_contiguous(tensor);
        let bytes = (tensor.meta.shape().num_elements() * tensor.dtype.size()) as u64;
        let memory = self.resolve(tensor.handle.clone())?;
        self.encoder.copy_buffer_to_buffer(&memory.buffer, memory.offset, dst, offset, bytes);
        self.held.push((tensor, memory.lease));
        Ok(())
    }

    fn copy_out(&mut self, src: &Buffer, offset: u64, shape: Shape) -> Result<CubeTensor> {
        let bytes = (shape.num_elements() * size_of::<f32>()) as u64;
        let (tensor, memory) = self.fresh(shape)?;
        self.encoder.copy_buffer_to_buffer(src, offset, &memory.buffer, memory.offset, bytes);
        self.held.push((tensor.clone(), memory.lease));
        Ok(tensor)
    }

    /// A tensor of one element.
    fn zero(&mut self) -> Result<CubeTensor> {
        let (tensor, memory) = self.fresh(Shape::new([1]))?;
        self.encoder.clear_buffer(&memory.buffer, memory.offset, Some(size_of::<f32>() as u64));
        self.held.push((tensor.clone(), memory.lease));
        Ok(tensor)
    }

    /// A tensor of Burn's with nothing in it yet.
    fn fresh(&self, shape: Shape) -> Result<(CubeTensor, Memory)> {
        let handle = self.client.empty(shape.num_elements() * size_of::<f32>());
        let tensor = CubeTensor::new_contiguous(self.client.clone(), self.device.clone(), shape, handle, DType::F32);
        let memory = self.resolve(tensor.handle.clone())?;
        Ok((tensor, memory))
    }

    /// After all that Burn had pending on the streams of these tensors.
    fn submit(self) -> Result<()> {
        let mut streams: Vec<_> = self.held.iter().map(|(tensor, _)| tensor.handle.stream).collect();
        streams.sort_unstable();
        streams.dedup();
        for stream in streams {
            stream.executes(|| self.client.flush()).map_err(|error| Error::Server(error.to_string()))?;
        }
        self.engine.ctx.queue().submit([self.encoder.finish()]);
        Ok(())
    }
}
