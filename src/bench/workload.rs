//! What `bench` times: one network at one shape, and how many FLOPs a run of it costs.

use std::fmt;
use std::sync::Arc;

use crate::cell::Cell;
use crate::gpu::dtype::Dtype;
use crate::network::config::RnnConfig;
use crate::network::sequence::{Mode, SeqShape};

/// How a workload runs, and what is read off its times.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Whole sequences, as many runs as a stable median takes.
    Throughput,
    /// The same, of a layer with one input feature, for the recurrence alone. Carries what is published of it: milliseconds of
    /// cuDNN 7.6.2 on a V100.
    Recurrence {
        /// See above.
        published_ms: f64,
    },
    /// Whole sequences of whole layers, beside what is published of some: milliseconds of cuDNN 9.19 on an H200.
    Layer {
        /// See above.
        published_ms: Option<f64>,
        /// The same with TF32 in place of f32.
        tf32_ms: Option<f64>,
    },
    /// Whole sequences, for how long a step takes, at worst too.
    Latency,
    /// Chunks of T steps, each going on from the state that the one before left on the GPU; for the same.
    Stream,
    /// A single step of a linear RNN without an initial state, for the bulk products alone.
    Product,
}

/// One network at one shape, forward or forward and backward.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The cell.
    pub cell: Arc<dyn Cell>,
    /// Shape and options.
    pub config: RnnConfig,
    /// T and B.
    pub shape: SeqShape,
    /// Forward, or forward and backward.
    pub mode: Mode,
    /// How it runs.
    pub kind: Kind,
    /// How a GPU stores parameters, input and output.
    pub dtype: Dtype,
}

impl Workload {
    /// FLOPs of the products of a forward pass for each row of T·B: of the input, and of the state.
    fn forward_flops(&self) -> [f64; 2] {
        let config = &self.config;
        let [gates, hidden, directions] =
            [self.cell.spec().gates.len(), config.hidden_size, config.num_directions()].map(|n| n as f64);
        let inputs: f64 = (0..config.num_layers).map(|layer| config.layer_input_size(layer) as f64).sum();
        [inputs, hidden * config.num_layers as f64].map(|columns| 2.0 * gates * hidden * columns * directions)
    }

    /// The sum of both.
    pub(super) fn forward_flops_per_row(&self) -> f64 {
        self.forward_flops().iter().sum()
    }

    /// FLOPs of one run; backward costs twice what forward does. Of bulk products what runs: without an initial state inference
    /// has no product of the state, and training that of a state of zeros and the gradient of its weights, but not of the state.
    pub fn flops(&self) -> f64 {
        let passes = match (self.kind, self.mode) {
            (Kind::Product, Mode::Inference) => [1.0, 0.0],
            (Kind::Product, Mode::Training) => [3.0, 2.0],
            (_, Mode::Inference) => [1.0, 1.0],
            (_, Mode::Training) => [3.0, 3.0],
        };
        let [input, state] = self.forward_flops();
        let input = if self.includes_input() { input } else { 0.0 };
        (passes[0] * input + passes[1] * state) * self.shape.seq_len as f64 * self.shape.batch_size as f64
    }

    /// Whether FLOPs include those of the input's product.
    pub fn includes_input(&self) -> bool {
        !matches!(self.kind, Kind::Recurrence { .. })
    }

    /// Milliseconds that are published of it: see [`published_by`](Self::published_by).
    pub fn published_ms(&self) -> Option<f64> {
        match self.kind {
            Kind::Recurrence { published_ms } => Some(published_ms),
            Kind::Layer { published_ms, .. } => published_ms,
            _ => None,
        }
    }

    /// The same where that library took TF32 in place of f32.
    pub fn published_tf32_ms(&self) -> Option<f64> {
        match self.kind {
            Kind::Layer { tf32_ms, .. } => tf32_ms,
            _ => None,
        }
    }

    /// Which device and library they are of.
    pub fn published_by(&self) -> Option<&'static str> {
        self.published_ms()?;
        Some(if self.includes_input() { "H200 cuDNN 9.19" } else { "V100 cuDNN 7.6" })
    }

    /// Bytes that one run has to move, were everything but parameters, input and output kept on the chip; training reads and
    /// writes each of them, or its gradient, three times.
    pub fn bytes(&self) -> f64 {
        let config = &self.config;
        let passes = if self.mode == Mode::Training { 3.0 } else { 1.0 };
        let weights = self.forward_flops_per_row() / 2.0;
        let io = (config.input_size + config.output_size()) as f64 * self.shape.seq_len as f64 * self.shape.batch_size as f64;
        let each = if self.dtype == Dtype::F16 { 2.0 } else { 4.0 };
        each * passes * (weights + io)
    }

    /// Whether a run is a chunk of a stream.
    pub fn is_stream(&self) -> bool {
        self.kind == Kind::Stream
    }

    pub(super) fn has_initial_state(&self) -> bool {
        self.kind != Kind::Product
    }

    /// `infer` or `train`.
    pub fn mode_name(&self) -> &'static str {
        if self.mode == Mode::Training { "train" } else { "infer" }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RnnConfig { input_size, hidden_size, num_layers, .. } = &self.config;
        write!(f, "{} I={input_size} H={hidden_size}", self.cell.name())?;
        if *num_layers > 1 {
            write!(f, " L={num_layers}")?;
        }
        if self.config.num_directions() > 1 {
            write!(f, " D=2")?;
        }
        let mode = if self.is_stream() { "stream" } else { self.mode_name() };
        write!(f, " T={} B={} {mode}", self.shape.seq_len, self.shape.batch_size)?;
        if self.dtype != Dtype::F32 {
            write!(f, " {}", self.dtype.name())?;
        }
        if self.includes_input() { Ok(()) } else { write!(f, ", recurrence alone") }
    }
}

#[cfg(test)]
mod tests {
    use crate::cell::by_name;

    use super::*;

    #[test]
    fn counts_flops_by_the_rule() {
        let config = RnnConfig::new(3, 5).with_num_layers(2).with_bidirectional(true);
        let shape = SeqShape { seq_len: 7, batch_size: 11 };
        let (cell, kind) = (by_name("gru").unwrap(), Kind::Throughput);
        let workload = Workload { cell, config, shape, mode: Mode::Training, kind, dtype: Dtype::F32 };
        let layers = 2 * (2 * 3 * 5 * (5 + 3)) + 2 * (2 * 3 * 5 * (5 + 10));
        assert_eq!(workload.flops(), f64::from(3 * layers * 7 * 11));
        assert_eq!(workload.bytes(), f64::from(3 * 4 * (layers / 2 + 7 * 11 * (3 + 10))));
        let halves = Workload { dtype: Dtype::F16, ..workload.clone() };
        assert_eq!([halves.flops(), halves.bytes()], [workload.flops(), workload.bytes() / 2.0]);
    }

    #[test]
    fn bulk_products_count_what_runs() {
        let flops = |mode| {
            let shape = SeqShape { seq_len: 1, batch_size: 7 };
            let (cell, config) = (by_name("rnn_linear").unwrap(), RnnConfig::new(3, 5));
            Workload { cell, config, shape, mode, kind: Kind::Product, dtype: Dtype::F32 }.flops()
        };
        assert_eq!(flops(Mode::Inference), f64::from(2 * 7 * 3 * 5));
        assert_eq!(flops(Mode::Training), f64::from(3 * 2 * 7 * 3 * 5 + 2 * 2 * 7 * 5 * 5));
    }
}
