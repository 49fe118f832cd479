//! `tidegate run`: a network from a file, tensors from a file, results into a file.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tidegate::import::Model;
use tidegate::{Context, Error, Gradients, Output, OutputGradients, Rnn, SeqShape, Sequence, Strategy};

use crate::cpu::{self, CpuRun, narrow, widen};
use crate::device::{self, Device};
use crate::{Result, files};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Safetensors file with PyTorch's state_dict names
    model: PathBuf,
    /// Safetensors file with `input`, optional `h0`, `c0`, `lengths`, and `d_output`, `d_hn`, `d_cn` for --backward
    input: PathBuf,
    /// Safetensors file to write
    #[arg(long)]
    output: PathBuf,
    /// Also compute the gradients of the input, the initial states and every parameter
    #[arg(long)]
    backward: bool,
    /// Cell, instead of the one that the shapes tell: lstm, gru, gru_reset_before, rnn_tanh, rnn_relu, rnn_linear, binary_gate
    #[arg(long)]
    cell: Option<String>,
    /// Take input, output and their gradients as [B,T,...] instead of [T,B,...]
    #[arg(long)]
    batch_first: bool,
    /// `cpu`, or the number or a part of the name of an adapter (see `tidegate devices`)
    #[arg(long)]
    device: Option<String>,
    /// How the recurrence becomes dispatches: auto or stepwise
    #[arg(long, default_value = "auto", value_parser = crate::strategy)]
    strategy: Strategy,
    /// Type of the values on the device
    #[arg(long, default_value = "f32")]
    dtype: DataType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DataType {
    F32,
    F16,
}

pub fn run(args: &Args) -> Result<()> {
    if args.dtype == DataType::F16 {
        return Err("--dtype f16 is not supported yet".into());
    }
    if args.model.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
        return Err(files::at(&args.model, "ONNX models are not read yet"));
    }
    let mut model =
        Model::from_safetensors(&files::read(&args.model)?, args.cell.as_deref()).map_err(|e| files::at(&args.model, e))?;
    model.config.batch_first = args.batch_first;
    let call = Call::read(&files::read(&args.input)?, &model, args.backward).map_err(|e| files::at(&args.input, e))?;
    let shape = call.shape;
    let results = match device::select(args.device.as_deref())? {
        Device::Cpu => on_cpu(&model, call)?,
        Device::Gpu(ctx) => on_gpu(&ctx, &model, &call, args.strategy)?,
    };
    write(&args.output, &model, shape, &results)
}

/// Host data of the one call that the command makes.
#[derive(Debug)]
struct Call {
    shape: SeqShape,
    input: Vec<f32>,
    initial_state: Option<Vec<f32>>,
    lengths: Option<Vec<u32>>,
    /// Present if backward is to run.
    d_output: Option<Vec<f32>>,
    d_final_state: Option<Vec<f32>>,
}

/// What each state is called in files: initial and final.
const STATES: [(&str, &str); 2] = [("h0", "hn"), ("c0", "cn")];

impl Call {
    fn read(bytes: &[u8], model: &Model, backward: bool) -> Result<Self> {
        let file = InputFile(SafeTensors::deserialize(bytes).map_err(Error::from)?);
        file.check_names(model, backward)?;
        let input_size = model.config.input_size;
        let &[first, second, features] = &*file.shape("input")? else {
            let order = if model.config.batch_first { "[B,T,I]" } else { "[T,B,I]" };
            return Err(format!("`input`: expected 3 dimensions {order}, got shape {:?}", file.shape("input")?).into());
        };
        let (seq_len, batch_size) = if model.config.batch_first { (second, first) } else { (first, second) };
        let shape = SeqShape { seq_len, batch_size };
        if features != input_size {
            let (expected, actual) = (vec![first, second, input_size], vec![first, second, features]);
            return Err(Error::Shape { name: "input".into(), expected, actual }.into());
        }
        shape.validate()?;

        let required = |name| file.values(name, &[first, second, features])?.ok_or_else(|| missing(name));
        let input = required("input")?;
        let initial = STATES.map(|(initial, _)| initial.to_string());
        let d_final = STATES.map(|(_, last)| format!("d_{last}"));
        let d_output = match file.values("d_output", &[first, second, model.config.output_size()])? {
            None if backward => return Err(format!("{}: --backward needs it", missing("d_output")).into()),
            d_output => d_output,
        };
        Ok(Self {
            shape,
            input,
            initial_state: file.states(&initial, model, batch_size)?,
            lengths: file.lengths(shape)?,
            d_output,
            d_final_state: file.states(&d_final, model, batch_size)?,
        })
    }
}

fn missing(name: &str) -> Error {
    Error::MissingTensor { name: name.into() }
}

/// [L·D, B, H].
fn state_shape(model: &Model, batch_size: usize) -> [usize; 3] {
    [model.config.num_layers * model.config.num_directions(), batch_size, model.config.hidden_size]
}

struct InputFile<'data>(SafeTensors<'data>);

impl InputFile<'_> {
    /// Refuses every tensor that this call has no use for.
    fn check_names(&self, model: &Model, backward: bool) -> Result<()> {
        let mut names = self.0.names();
        names.sort_unstable();
        for name in names {
            let state = STATES.iter().position(|(initial, last)| name == *initial || name.strip_prefix("d_") == Some(last));
            let gradient = name == "d_output" || state.is_some() && name.starts_with("d_");
            if name != "input" && name != "lengths" && name != "d_output" && state.is_none() {
                return Err(
                    format!("unused tensor `{name}`: an input is called input, h0, c0, lengths, d_output, d_hn or d_cn").into()
                );
            }
            if gradient && !backward {
                return Err(format!("unused tensor `{name}`: only --backward takes it").into());
            }
            if state.is_some_and(|state| state >= model.cell.states()) {
                return Err(format!("unused tensor `{name}`: cell `{}` has no such state", model.cell.name()).into());
            }
        }
        Ok(())
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, Error> {
        Ok(self.0.tensor(name).map_err(|_| missing(name))?.shape().to_vec())
    }

    /// The tensor's bytes if the file has it, of that type and shape.
    fn bytes(&self, name: &str, (dtype, expected): (Dtype, &'static str), shape: &[usize]) -> Result<Option<&[u8]>, Error> {
        let Ok(tensor) = self.0.tensor(name) else { return Ok(None) };
        if tensor.dtype() != dtype {
            return Err(Error::Dtype { name: name.into(), expected, actual: tensor.dtype().to_string() });
        }
        if tensor.shape() != shape {
            return Err(Error::Shape { name: name.into(), expected: shape.to_vec(), actual: tensor.shape().to_vec() });
        }
        Ok(Some(tensor.data()))
    }

    fn values(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>, Error> {
        let bytes = self.bytes(name, (Dtype::F32, "F32"), shape)?;
        Ok(bytes.map(|bytes| bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()))
    }

    /// The cell's states one behind the other, zeros for one that is not given; nothing if none is.
    fn states(&self, names: &[String], model: &Model, batch_size: usize) -> Result<Option<Vec<f32>>, Error> {
        let shape = state_shape(model, batch_size);
        let given = names[..model.cell.states()].iter().map(|name| self.values(name, &shape)).collect::<Result<Vec<_>, _>>()?;
        if given.iter().all(Option::is_none) {
            return Ok(None);
        }
        let zeros = vec![0.0; shape.iter().product()];
        Ok(Some(given.into_iter().flat_map(|state| state.unwrap_or_else(|| zeros.clone())).collect()))
    }

    fn lengths(&self, shape: SeqShape) -> Result<Option<Vec<u32>>> {
        let Some(bytes) = self.bytes("lengths", (Dtype::I32, "I32"), &[shape.batch_size])? else { return Ok(None) };
        let lengths = bytes.as_chunks().0.iter().map(|&word| i32::from_le_bytes(word)).enumerate();
        let checked = lengths.map(|(b, length)| match u32::try_from(length) {
            Ok(length) if length >= 1 && length as usize <= shape.seq_len => Ok(length),
            _ => Err(format!("`lengths[{b}]`: {length} is outside 1..={}", shape.seq_len).into()),
        });
        Ok(Some(checked.collect::<Result<_>>()?))
    }
}

/// Output, and gradients if asked for.
type Results = (Output, Option<Gradients>);

fn on_gpu(ctx: &Context, model: &Model, call: &Call, strategy: Strategy) -> Result<Results> {
    let rnn = Rnn::new(ctx, model.cell.clone(), model.config.clone())?.with_strategy(strategy);
    let params = rnn.upload(&model.params)?;
    let mut seq = Sequence::new(call.shape, &call.input);
    (seq.initial_state, seq.lengths) = (call.initial_state.as_deref(), call.lengths.as_deref());
    let Some(d_output) = &call.d_output else { return Ok((rnn.forward_blocking(&params, &seq)?, None)) };
    let d = OutputGradients { d_output, d_final_state: call.d_final_state.as_deref() };
    let (output, gradients) = rnn.backward_blocking(&params, &seq, &d)?;
    Ok((output, Some(gradients)))
}

fn on_cpu(model: &Model, call: Call) -> Result<Results> {
    cpu::check_memory(&model.cell, &model.config, call.shape, call.d_output.is_some())?;
    let run = CpuRun {
        cell: &model.cell,
        config: &model.config,
        params: widen(model.params.values()),
        shape: call.shape,
        input: widen(&call.input),
        initial_state: call.initial_state.as_deref().map(widen),
        lengths: call.lengths,
        d_output: call.d_output.as_deref().map(widen),
        d_final_state: call.d_final_state.as_deref().map(widen),
    };
    let (output, gradients) = run.run()?;
    let gradients = gradients.map(|d| Gradients {
        d_input: narrow(&d.d_input),
        d_params: narrow(&d.d_params),
        d_initial_state: narrow(&d.d_initial_state),
    });
    Ok((Output { output: narrow(&output.output), final_state: narrow(&output.final_state) }, gradients))
}

/// Writes the tensors of the contract, and no others.
fn write(path: &Path, model: &Model, shape: SeqShape, (output, gradients): &Results) -> Result<()> {
    let config = &model.config;
    let (first, second) = if config.batch_first { (shape.batch_size, shape.seq_len) } else { (shape.seq_len, shape.batch_size) };
    let mut tensors = vec![("output".to_string(), vec![first, second, config.output_size()], &*output.output)];
    tensors.extend(split_states(model, shape, &output.final_state, STATES.map(|(_, last)| last.to_string())));
    if let Some(d) = gradients {
        tensors.push(("d_input".into(), vec![first, second, config.input_size], &d.d_input));
        tensors.extend(split_states(model, shape, &d.d_initial_state, STATES.map(|(initial, _)| format!("d_{initial}"))));
        let params = model.params.layout().iter();
        tensors.extend(params.map(|spec| (format!("d_{}", spec.name), spec.shape.clone(), &d.d_params[spec.range.clone()])));
    }
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(.., values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes);
    let views = views.map(|((name, shape, _), bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    files::write(path, &safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?)
}

/// Each of the cell's states out of one block, under its name.
fn split_states<'a>(
    model: &Model,
    shape: SeqShape,
    block: &'a [f32],
    names: [String; STATES.len()],
) -> impl Iterator<Item = (String, Vec<usize>, &'a [f32])> + use<'a> {
    let shape = state_shape(model, shape.batch_size);
    names.into_iter().zip(block.chunks(shape.iter().product())).map(move |(name, state)| (name, shape.to_vec(), state))
}
