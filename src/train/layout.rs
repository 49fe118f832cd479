//! Where the tensors of a whole model lie in its one flat block, and a host copy of them.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;

use super::TrainConfig;
use super::pass::elements;
use super::tensors::{Tensor, read_f32, write};
use crate::error::{Error, Result, check_len};
use crate::import::open_safetensors;
use crate::network::params::{ParamLayout, ParamSpec, Params};
use crate::rnn::Rnn;

/// Names, shapes and ranges of all tensors of a model: `embedding.weight` `[V, I]` if there is one, the network's own behind `rnn.`,
/// `head.weight` `[C, D·H]` and `head.bias` `[C]`.
///
/// The three parts lie one after another in that order, each at a multiple of the device's storage offset alignment; what is
/// between them stays 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    specs: Vec<ParamSpec>,
    embedding: Option<Range<usize>>,
    rnn: Range<usize>,
    head: Range<usize>,
    /// Each value of the head is uniform within ± the root of one over this.
    head_features: usize,
    rnn_layout: ParamLayout,
}

impl Layout {
    /// The layout of what a [`Trainer`](super::Trainer) of this network and config trains.
    pub fn new(rnn: &Rnn, config: &TrainConfig) -> Result<Self> {
        let alignment = rnn.context().limits().min_storage_buffer_offset_alignment as usize / 4;
        let (network, rnn_layout) = (rnn.config(), rnn.param_layout());
        elements(&[("out_features", config.out_features)])?;
        let mut specs = Vec::new();
        let mut end = 0;
        let mut embedding = None;
        if let Some(vocabulary) = config.vocabulary {
            let weight = spec("embedding.weight", &[vocabulary, network.input_size], 0)?;
            end = weight.range.end;
            embedding = Some(weight.range.clone());
            specs.push(weight);
        }
        let start = end.next_multiple_of(alignment);
        let rnn = start..start + rnn_layout.len();
        for own in rnn_layout.iter() {
            let range = start + own.range.start..start + own.range.end;
            specs.push(ParamSpec { name: format!("rnn.{}", own.name), shape: own.shape.clone(), range });
        }
        let head_start = rnn.end.next_multiple_of(alignment);
        let head_features = network.output_size();
        specs.push(spec("head.weight", &[config.out_features, head_features], head_start)?);
        let mut head = head_start..head_start + config.out_features * head_features;
        if config.head_bias {
            specs.push(spec("head.bias", &[config.out_features], head.end)?);
            head.end += config.out_features;
        }
        elements(&[("all parameters", head.end)])?;
        Ok(Self { specs, embedding, rnn, head, head_features, rnn_layout: rnn_layout.clone() })
    }

    /// The tensors in block order.
    pub fn iter(&self) -> impl Iterator<Item = &ParamSpec> {
        self.specs.iter()
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Result<&ParamSpec> {
        self.specs.iter().find(|spec| spec.name == name).ok_or_else(|| Error::UnknownName {
            kind: "parameter",
            name: name.into(),
            known: self.specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Elements of the whole block, with what lies between its parts.
    #[expect(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.head.end
    }

    pub(super) fn embedding(&self) -> Option<Range<usize>> {
        self.embedding.clone()
    }

    pub(super) fn rnn(&self) -> Range<usize> {
        self.rnn.clone()
    }

    pub(super) fn head(&self) -> Range<usize> {
        self.head.clone()
    }
}

fn spec(name: &str, shape: &[usize], start: usize) -> Result<ParamSpec> {
    let dimensions: Vec<_> = shape.iter().map(|&size| (name, size)).collect();
    let range = start..start + elements(&dimensions)? as usize;
    Ok(ParamSpec { name: name.into(), shape: shape.to_vec(), range })
}

/// Host copy of all weights of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    layout: Layout,
    values: Vec<f32>,
}

impl Weights {
    /// PyTorch's defaults: the network uniform in ±1/√H, the head in ±1/√(D·H), the embedding normal with deviation 1 (here a sum of
    /// twelve uniforms, so never beyond 6). The same seed gives the same values on every machine.
    pub fn init(layout: &Layout, seed: u64) -> Self {
        let mut values = vec![0.0; layout.len()];
        let rnn = Params::uniform(&layout.rnn_layout, seed);
        values[layout.rnn()].copy_from_slice(rnn.values());
        // A stream of its own: the first values of the seed's are the network's.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1);
        for value in layout.embedding().map(|range| &mut values[range]).unwrap_or_default() {
            *value = (0..12).map(|_| rng.random_range(-0.5f32..=0.5)).sum();
        }
        let bound = 1.0 / (layout.head_features as f32).sqrt();
        for value in &mut values[layout.head()] {
            *value = rng.random_range(-bound..=bound);
        }
        Self { layout: layout.clone(), values }
    }

    /// Starts the recurrent network from these parameters, of a file or another initialisation; they must have its layout.
    pub fn with_rnn_params(mut self, params: &Params) -> Result<Self> {
        if params.layout() != &self.layout.rnn_layout {
            let [expected, actual] = [&self.layout.rnn_layout, params.layout()]
                .map(|layout| layout.iter().map(|spec| format!("{} {:?}", spec.name, spec.shape)).collect::<Vec<_>>().join(", "));
            return Err(Error::Config(format!("`params` are {actual}; the network has {expected}")));
        }
        self.values[self.layout.rnn()].copy_from_slice(params.values());
        Ok(self)
    }

    /// Takes a whole block in layout order, as [`Trainer::weights`](super::Trainer::weights) gives it.
    pub(super) fn from_values(layout: &Layout, values: Vec<f32>) -> Result<Self> {
        check_len("weights", layout.len(), values.len())?;
        Ok(Self { layout: layout.clone(), values })
    }

    /// Reads every tensor of the layout by its name. A tensor that is missing, not used, of another shape or not F32 is an error.
    pub fn from_safetensors(layout: &Layout, bytes: &[u8]) -> Result<Self> {
        Self::from_file(layout, &open_safetensors(bytes)?, &[])
    }

    /// The same of an open file, which may have tensors of these other names too.
    pub(super) fn from_file(layout: &Layout, file: &SafeTensors<'_>, others: &[&str]) -> Result<Self> {
        let wanted: Vec<_> = layout.iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect();
        Ok(Self::from_tensors(layout, &read_f32(file, &wanted, others)?))
    }

    /// `tensors` are the layout's, in its order and of its sizes.
    pub(super) fn from_tensors(layout: &Layout, tensors: &[Vec<f32>]) -> Self {
        let mut values = vec![0.0; layout.len()];
        for (spec, tensor) in layout.iter().zip(tensors) {
            values[spec.range.clone()].copy_from_slice(tensor);
        }
        Self { layout: layout.clone(), values }
    }

    /// A file that `load_state_dict(strict=True)` of a PyTorch module with `embedding`, `rnn` and `head` takes.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        write(&self.tensors(""), None)
    }

    pub(super) fn tensors(&self, prefix: &str) -> Vec<Tensor> {
        let tensor = |spec: &ParamSpec| {
            Tensor::f32(format!("{prefix}{}", spec.name), spec.shape.clone(), &self.values[spec.range.clone()])
        };
        self.layout.iter().map(tensor).collect()
    }

    /// Where each tensor lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The whole block in layout order, with zeros between its parts.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One tensor, row-major.
    pub fn get(&self, name: &str) -> Result<&[f32]> {
        Ok(&self.values[self.layout.find(name)?.range.clone()])
    }

    /// Overwrites one tensor.
    pub fn set(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let range = self.layout.find(name)?.range.clone();
        check_len(name, range.len(), values.len())?;
        self.values[range].copy_from_slice(values);
        Ok(())
    }

    /// The recurrent network's own, for [`Rnn::upload`].
    pub fn rnn_params(&self) -> Result<Params> {
        Params::from_values(&self.layout.rnn_layout, self.values[self.layout.rnn()].to_vec())
    }
}
