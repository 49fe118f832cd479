//! A network as schedules and plans see it, and the sizes that everything is computed from at a shape.

use std::sync::Arc;

use crate::cell::{Cell, ShaderCell};
use crate::error::{Error, Limit, Result};
use crate::gpu::element::Element;
use crate::network::config::RnnConfig;
use crate::network::params::ParamLayout;
use crate::network::sequence::{SeqShape, state_len};
use crate::schedule::layer::LayerSizes;

/// A network without a shape: what `Rnn` and its plans share.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub math: Arc<dyn Cell>,
    /// The same for kernels.
    pub cell: ShaderCell,
    pub config: RnnConfig,
    pub layout: ParamLayout,
    /// How parameters, input and output are stored.
    pub element: Element,
}

/// Sizes that everything is computed from, in elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dims {
    pub seq_len: u64,
    pub batch: u64,
    /// T·B.
    pub rows: u64,
    pub hidden: u64,
    pub directions: u64,
    /// G·H.
    pub gate_rows: u64,
    /// D·H.
    pub output: u64,
    pub states: u64,
    /// One state of all layers and directions, as the recurrence has it: L·D·B·H.
    pub block: u64,
    /// All states as the caller has them.
    pub state: u64,
    pub batch_first: bool,
}

impl Dims {
    pub(crate) fn new(network: &Network, shape: SeqShape) -> Result<Self> {
        let (cell, config) = (&network.cell, &network.config);
        let most = u64::from(u32::MAX);
        // Every other size is at most a small multiple of these two.
        let width =
            (cell.gates.len() + cell.saved + cell.states.len() + 2) as u128 * config.hidden_size.max(config.input_size) as u128;
        let largest = shape.rows() as u128 * width * config.num_directions() as u128;
        let states =
            shape.batch_size as u128 * (config.num_layers * config.num_directions()) as u128 * config.hidden_size as u128;
        let (steps, rows) = (shape.seq_len as u128, shape.batch_size as u128);
        let all = [("workspace and reserve", largest, steps), ("states", states * cell.states.len() as u128, 1)];
        for (what, needed, steps) in all {
            if needed > most.into() {
                let longest = u128::from(most) / (needed / steps);
                let way_out = if steps > 1 && longest > 0 {
                    format!("; at this B the longest T is {longest}: go on in chunks, each from the state where the last ended")
                } else {
                    format!("; at most B = {}: take fewer rows at a time", u128::from(most) / (needed / steps / rows).max(1))
                };
                let needed = u64::try_from(needed).unwrap_or(u64::MAX);
                return Err(Error::Limit { limit: Limit::Index(format!("{what}{way_out}")), needed, actual: most });
            }
        }
        Ok(Self {
            seq_len: shape.seq_len as u64,
            batch: shape.batch_size as u64,
            rows: shape.rows() as u64,
            hidden: config.hidden_size as u64,
            directions: config.num_directions() as u64,
            gate_rows: (cell.gates.len() * config.hidden_size) as u64,
            output: config.output_size() as u64,
            states: cell.states.len() as u64,
            block: (config.num_layers * config.num_directions() * shape.batch_size * config.hidden_size) as u64,
            state: state_len(cell.spec(), config, shape) as u64,
            batch_first: config.batch_first,
        })
    }

    /// Elements of one layer's gate gradients: [D, T·B, G, H].
    pub(crate) fn gate_elements(&self) -> u64 {
        self.directions * self.rows * self.gate_rows
    }

    /// Steps whose input products `bytes` hold, at least one.
    pub(crate) fn window(&self, bytes: u64) -> u64 {
        let step = 4 * self.directions * self.batch * self.gate_rows;
        (bytes / step).clamp(1, self.seq_len)
    }

    /// Where the per-unit gradients start in d_gates.
    pub(crate) fn d_unit_offset(&self, network: &Network) -> u64 {
        self.gate_elements() * if network.cell.split_gradients { 2 } else { 1 }
    }

    /// h of all layers and directions, as the caller has it.
    pub(crate) fn h_block(&self) -> u64 {
        self.state - (self.states - 1) * self.block
    }

    /// Parameters of a layer and direction, as its recurrence takes them where h is projected: W_hh·W_hr `[G·H, H]`, `bias_hh`, and
    /// the per-unit rows.
    pub(crate) fn inner_len(&self, network: &Network) -> u64 {
        self.gate_rows * self.hidden + self.inner_rest(network)
    }

    /// Those of them behind the weights.
    pub(crate) fn inner_rest(&self, network: &Network) -> u64 {
        let bias = if network.config.bias { self.gate_rows } else { 0 };
        bias + network.cell.unit_rows() as u64 * self.hidden
    }

    /// Words of lengths, resets and links: see `shared/mask.wgsl`.
    pub(crate) fn mask(&self) -> u64 {
        self.batch + (1 + self.directions) * self.rows
    }

    pub(crate) fn layer_sizes(&self, network: &Network, layer: usize, has_reset: bool) -> LayerSizes {
        let block = network.layout.block(layer, 0);
        let sizes = LayerSizes {
            seq_len: self.seq_len as u32,
            batch: self.batch as u32,
            rows: self.rows as u32,
            row_t: if self.batch_first { 1 } else { self.batch as u32 },
            row_b: if self.batch_first { self.seq_len as u32 } else { 1 },
            hidden: self.hidden as u32,
            directions: self.directions as u32,
            reverse: network.config.runs_back(0).into(),
            layer: layer as u32 * self.directions as u32,
            block: self.block as u32,
            has_reset: has_reset.into(),
            has_bias: block.bias.is_some().into(),
            weight: block.weight_hh as u32,
            bias: block.bias.map_or(0, |b| b as u32 + self.gate_rows as u32),
            unit: block.unit.unwrap_or(0) as u32,
            param_stride: block.len as u32,
            ..Default::default()
        };
        if network.config.proj_size == 0 {
            return sizes;
        }
        let bias = self.gate_rows * self.hidden;
        let unit = bias + if network.config.bias { self.gate_rows } else { 0 };
        let param_stride = self.inner_len(network) as u32;
        LayerSizes { weight: 0, bias: bias as u32, unit: unit as u32, param_stride, ..sizes }
    }

    /// Elements of the output where no kernel can write it as it is stored, else 0.
    pub(crate) fn unpacked(&self, network: &Network) -> u64 {
        if network.element == Element::PackedF16 { self.rows * self.output } else { 0 }
    }
}
