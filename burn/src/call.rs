//! A call of a module: checks, and the way from Burn's tensors to its backend's and back.

use std::sync::Arc;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    AutodiffBackend, BackendTensor, Cube, DType, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
    GradientCheckpointingStrategy,
};
use burn::nn::GateController;
use burn::tensor::{Int, IntDType, Shape, Tensor};
use tidegate::{Direction, Mode, RnnConfig, SeqShape};

use crate::autodiff;
use crate::backend::launch;
use crate::cell::Kind;
use crate::device::engine;
use crate::error::{Error, Result};
use crate::execute::{ForwardWork, Job};
use crate::network::Given;

/// What a module hands over.
pub(crate) struct Call<'a> {
    pub kind: Kind,
    pub input: Tensor<3>,
    pub batch_first: bool,
    pub direction: Direction,
    /// Gates that Burn has tensors for, in tidegate's order: layer by layer, and in each direction by direction.
    pub layers: Vec<Vec<&'a GateController>>,
    /// h, and an LSTM's c: `[L·D, B, H]`.
    pub states: Vec<Tensor<3>>,
    pub lengths: Option<Tensor<1, Int>>,
    pub dropout: f64,
}

/// What comes back.
pub(crate) struct Outputs {
    pub output: Tensor<3>,
    /// As [`Call::states`].
    pub states: Vec<Tensor<3>>,
}

/// Any float tensor of a call.
struct Input {
    tensor: DispatchTensor,
    shape: Shape,
}

impl Call<'_> {
    pub fn run(self) -> Result<Outputs> {
        let (job, inputs) = self.prepare()?;
        let lengths = self.lengths.map(int_tensor).transpose()?;
        let tensors: Vec<_> = inputs.into_iter().map(|input| input.tensor).collect();
        let outputs = match strategy(&tensors)? {
            None => {
                let inputs = tensors.into_iter().map(plain).collect::<Result<_>>()?;
                launch(Arc::new(ForwardWork { job, saved: None }), inputs, lengths).into_iter().map(wrap_plain).collect()
            }
            Some(strategy @ GradientCheckpointingStrategy::Disabled) => {
                with_autodiff::<NoCheckpointing>(job, tensors, lengths, strategy)?
            }
            Some(strategy) => with_autodiff::<BalancedCheckpointing>(job, tensors, lengths, strategy)?,
        };
        let mut tensors = outputs.into_iter().map(Tensor::from_dispatch);
        let output = tensors.next().expect("every pass has an output");
        Ok(Outputs { output, states: tensors.collect() })
    }

    /// Everything that can be wrong, before anything runs.
    fn prepare(&self) -> Result<(Arc<Job>, Vec<Input>)> {
        let device = self.input.device();
        let engine = engine(&device)?;
        let first = &self.layers[0][0].input_transform;
        let [input_size, hidden_size] = first.weight.shape().dims();
        let directions = if self.direction == Direction::Bidirectional { 2 } else { 1 };
        let config = RnnConfig::new(input_size, hidden_size)
            .with_num_layers(self.layers.len() / directions)
            .with_direction(self.direction)
            .with_bias(first.bias.is_some())
            .with_batch_first(self.batch_first)
            .with_dropout(self.dropout as f32);
        let [a, b, features] = self.input.dims();
        let layout = if self.batch_first { "[batch, sequence, features]" } else { "[sequence, batch, features]" };
        check("input", layout, vec![a, b, input_size], vec![a, b, features])?;
        let (seq_len, batch_size) = if self.batch_first { (b, a) } else { (a, b) };
        let shape = SeqShape { seq_len, batch_size };
        let network = engine.network(&self.kind, &config)?;
        let state = [self.layers.len(), batch_size, hidden_size];

        let mut inputs = vec![float("input", self.input.clone(), &device)?];
        let mut weights_of_gate = 0;
        for (index, gates) in self.layers.iter().enumerate() {
            for gate in gates {
                let before = inputs.len();
                add_gate(&mut inputs, gate, config.layer_input_size(index / directions), &config, &device)?;
                weights_of_gate = inputs.len() - before;
            }
        }
        let weights = inputs[1..].iter().map(|input| input.shape.clone()).collect();
        for (name, tensor) in ["initial hidden state", "initial cell state"].into_iter().zip(&self.states) {
            check(name, "[layers * directions, batch, hidden]", state.to_vec(), tensor.dims().to_vec())?;
            inputs.push(float(name, tensor.clone(), &device)?);
        }
        if let Some(lengths) = &self.lengths {
            check("lengths", "[batch]", vec![batch_size], lengths.dims().to_vec())?;
            check_device("lengths", &lengths.device(), &device)?;
        }
        let autodiff = inputs.iter().any(|input| input.tensor.autodiff != DispatchAutodiffContext::Disabled);
        // What the device cannot do is told here, where it can be returned.
        network.plan(shape, if autodiff { Mode::Training } else { Mode::Inference })?;
        let job = Job {
            engine,
            network,
            shape,
            given: Given { states: !self.states.is_empty(), lengths: self.lengths.is_some() },
            states: self.kind.states(),
            input: [a, b, input_size],
            output: [a, b, config.output_size()],
            state,
            weights,
            weights_of_gate,
        };
        Ok((Arc::new(job), inputs))
    }
}

fn add_gate(
    inputs: &mut Vec<Input>,
    gate: &GateController,
    input_size: usize,
    config: &RnnConfig,
    device: &burn::tensor::Device,
) -> Result<()> {
    let (transforms, hidden) = ([&gate.input_transform, &gate.hidden_transform], config.hidden_size);
    for (linear, rows, name) in [(transforms[0], input_size, "input weight"), (transforms[1], hidden, "hidden weight")] {
        let weight = linear.weight.val();
        check(name, "[inputs, hidden]", vec![rows, hidden], weight.dims().to_vec())?;
        inputs.push(float(name, weight, device)?);
    }
    for (linear, name) in [(transforms[0], "input bias"), (transforms[1], "hidden bias")] {
        if linear.bias.is_some() != config.bias {
            return Err(Error::Unsupported(format!(
                "some gates have a `{name}` and some have none; tidegate's have it all or none"
            )));
        }
        if let Some(bias) = &linear.bias {
            let bias = bias.val();
            check(name, "[hidden]", vec![hidden], bias.dims().to_vec())?;
            inputs.push(float(name, bias, device)?);
        }
    }
    Ok(())
}

fn check(name: &'static str, layout: &'static str, expected: Vec<usize>, actual: Vec<usize>) -> Result<()> {
    if expected == actual { Ok(()) } else { Err(Error::Shape { name, layout, expected, actual }) }
}

fn check_device(name: &'static str, actual: &burn::tensor::Device, expected: &burn::tensor::Device) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    Err(Error::Devices { name, expected: format!("{expected:?}"), actual: format!("{actual:?}") })
}

fn float<const D: usize>(name: &'static str, tensor: Tensor<D>, device: &burn::tensor::Device) -> Result<Input> {
    check_device(name, &tensor.device(), device)?;
    if tensor.dtype() != DType::F32 {
        return Err(Error::DType { name, actual: format!("{:?}", tensor.dtype()) });
    }
    let shape = tensor.shape();
    Ok(Input { tensor: tensor.into_dispatch(), shape })
}

/// As the GPU reads them: of 32 bits.
fn int_tensor(lengths: Tensor<1, Int>) -> Result<IntTensor<Cube>> {
    let lengths = if matches!(lengths.dtype(), DType::I32 | DType::U32) { lengths } else { lengths.cast(IntDType::I32) };
    match lengths.into_dispatch().kind {
        DispatchTensorKind::Cube(BackendTensor::Int(tensor)) => Ok(tensor),
        other => Err(Error::NotWgpu { device: format!("{other:?}") }),
    }
}

/// Which autodiff the tensors are of, if any is.
fn strategy(tensors: &[DispatchTensor]) -> Result<Option<GradientCheckpointingStrategy>> {
    let mut found = None;
    for tensor in tensors {
        match (tensor.autodiff, found) {
            (DispatchAutodiffContext::Enabled(strategy), Some(other)) if strategy != other => {
                return Err(Error::Unsupported(format!(
                    "tensors of one call have checkpointing {strategy:?} and {other:?}; use one"
                )));
            }
            (DispatchAutodiffContext::Enabled(strategy), _) => found = Some(strategy),
            (DispatchAutodiffContext::Disabled, _) => {}
        }
    }
    Ok(found)
}

fn plain(tensor: DispatchTensor) -> Result<FloatTensor<Cube>> {
    match tensor.kind {
        DispatchTensorKind::Cube(BackendTensor::Float(tensor)) => Ok(tensor),
        other => Err(Error::NotWgpu { device: format!("{other:?}") }),
    }
}

fn wrap_plain(tensor: FloatTensor<Cube>) -> DispatchTensor {
    DispatchTensor { kind: DispatchTensorKind::Cube(BackendTensor::Float(tensor)), autodiff: DispatchAutodiffContext::Disabled }
}

fn with_autodiff<C: CheckpointStrategy>(
    job: Arc<Job>,
    tensors: Vec<DispatchTensor>,
    lengths: Option<IntTensor<Cube>>,
    strategy: GradientCheckpointingStrategy,
) -> Result<Vec<DispatchTensor>> {
    let inputs = tensors.into_iter().map(|tensor| match tensor.kind {
        DispatchTensorKind::Autodiff(inner) => match *inner {
            DispatchTensorKind::Cube(BackendTensor::Autodiff(tensor)) => Ok(tensor),
            other => Err(Error::NotWgpu { device: format!("{other:?}") }),
        },
        // A tensor of the device without autodiff is a constant.
        kind => {
            let constant = plain(DispatchTensor { kind, autodiff: DispatchAutodiffContext::Disabled })?;
            Ok(<Autodiff<Cube, C> as AutodiffBackend>::from_inner(constant))
        }
    });
    let outputs = autodiff::forward::<C>(job, inputs.collect::<Result<_>>()?, lengths);
    let wrap = |tensor| DispatchTensor {
        kind: DispatchTensorKind::Autodiff(Box::new(DispatchTensorKind::Cube(BackendTensor::Autodiff(tensor)))),
        autodiff: DispatchAutodiffContext::Enabled(strategy),
    };
    Ok(outputs.into_iter().map(wrap).collect())
}
