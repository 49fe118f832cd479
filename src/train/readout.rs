//! [`Readout`]: which of a network's outputs become predictions. The kernels of [`Readout::Final`].

use wgpu::BufferBinding;

use super::pass::{Pass, Use, reads, writes};
use crate::error::Result;
use crate::gpu::context::Context;
use crate::gpu::kernel::{Binding, KernelSource, StepIndex, sizes};
use crate::gpu::program::elementwise;
use crate::gpu::program::{Dispatch, Role, Segment, Slot};
use crate::gpu::shaders::shader;
use crate::network::config::RnnConfig;
use crate::network::sequence::SeqShape;

/// Which of a network's outputs become predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readout {
    /// The output of every step: T·B predictions, in the order of the network's output rows.
    #[default]
    EveryStep,
    /// The output of the last step that each direction processes, of both directions side by side: B predictions. Forward that is
    /// each row's last valid step, in reverse its first: PyTorch's `h_n` of the last layer.
    Final,
}

/// [`Readout::Final`] of a network at a shape.
#[derive(Debug, Clone)]
pub(super) struct FinalReadout {
    ctx: Context,
    words: ReadoutWords,
}

sizes! {
    ReadoutWords {
        seq_len, batch, hidden, directions,
        /// 1 where the only direction is the reverse.
        reverse,
        row_t, row_b, has_lengths,
    }
}

fn forward_source() -> KernelSource {
    let bindings = [Binding::read("lengths").of_u32(), Binding::read("output"), Binding::write("features")];
    KernelSource::new(shader!("train/readout_forward"), &[], &bindings, StepIndex::None, ReadoutWords::WGSL)
}

fn backward_source() -> KernelSource {
    let bindings = [Binding::read("lengths").of_u32(), Binding::read("d_features"), Binding::write("d_output")];
    KernelSource::new(shader!("train/readout_backward"), &[], &bindings, StepIndex::None, ReadoutWords::WGSL)
}

pub(super) fn sources() -> Vec<KernelSource> {
    vec![forward_source(), backward_source()]
}

impl FinalReadout {
    pub fn new(ctx: &Context, config: &RnnConfig, shape: SeqShape) -> Self {
        let (seq_len, batch) = (shape.seq_len as u32, shape.batch_size as u32);
        let words = ReadoutWords {
            seq_len,
            batch,
            hidden: config.h_size() as u32,
            directions: config.num_directions() as u32,
            reverse: config.runs_back(0).into(),
            row_t: if config.batch_first { 1 } else { batch },
            row_b: if config.batch_first { seq_len } else { 1 },
            has_lengths: 0,
        };
        Self { ctx: ctx.clone(), words }
    }

    /// Elements of the output and of the features.
    fn elements(&self) -> [u64; 2] {
        let features = [self.words.batch, self.words.hidden, self.words.directions].map(u64::from).iter().product();
        [features * u64::from(self.words.seq_len), features]
    }

    /// Binds `[lengths, output, features]`: the first two are read, and `lengths` may be absent.
    pub fn bind_forward(
        &self,
        lengths: Option<BufferBinding<'_>>,
        output: BufferBinding<'_>,
        features: BufferBinding<'_>,
    ) -> Result<Pass> {
        let [whole, last] = self.elements();
        let slots = [Slot::whole(Role::Output, whole), Slot::whole(Role::Features, last)];
        let uses = [reads(Role::Output, &output, 4 * whole), writes(Role::Features, &features, 4 * last)];
        self.bind("tidegate readout", forward_source(), lengths, slots, uses, last)
    }

    /// Binds `[lengths, d_features, d_output]` likewise.
    pub fn bind_backward(
        &self,
        lengths: Option<BufferBinding<'_>>,
        d_features: BufferBinding<'_>,
        d_output: BufferBinding<'_>,
    ) -> Result<Pass> {
        let [whole, last] = self.elements();
        let slots = [Slot::whole(Role::DFeatures, last), Slot::whole(Role::DOutput, whole)];
        let uses = [reads(Role::DFeatures, &d_features, 4 * last), writes(Role::DOutput, &d_output, 4 * whole)];
        self.bind("tidegate readout backward", backward_source(), lengths, slots, uses, whole)
    }

    fn bind(
        &self,
        label: &'static str,
        source: KernelSource,
        lengths: Option<BufferBinding<'_>>,
        [from, to]: [Slot; 2],
        [read, written]: [Use<'_>; 2],
        grid: u64,
    ) -> Result<Pass> {
        let batch = u64::from(self.words.batch);
        let words = ReadoutWords { has_lengths: lengths.is_some().into(), ..self.words };
        let slots = [Slot::whole(Role::Lengths, batch).only_if(lengths.is_some()), from, to];
        let dispatch = Dispatch::new(&self.ctx, self.ctx.kernel(source), &slots, &words, elementwise(&self.ctx, grid))?;
        let uses = [reads(Role::Lengths, lengths.as_ref(), 4 * batch), read, written];
        Pass::bind(&self.ctx, label, &[Segment::from(dispatch)], &uses)
    }
}
