//! `tidegate run`: a network from a file, tensors from a file, results into a file.

pub mod onnx;
pub mod tensors;

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tidegate::import::onnx::Part;
use tidegate::import::{Family, Model, Reading, masked_steps};
use tidegate::reference::device::{self as cpu, CpuRun, narrow, widen};
use tidegate::{Context, Dtype, Gradients, Mode, Output, OutputGradients, Rnn, Sequence, Strategy};

use crate::args::cell_help;
use crate::args::device::{self, Device};
use crate::args::files;
use crate::bench::tunings::Tunings;
use crate::{Failure, Result, print};
use tensors::{Call, Results, is_input, serialize};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Weights in safetensors, as PyTorch's state_dict, Keras 3 and others name them (see --from), or an ONNX model (*.onnx).
    /// docs/models.md has the names
    model: PathBuf,
    /// Safetensors file with `input` [T,B,I], optional `h0`, `c0`, `lengths`, `reset` and `mask`, and `d_output`, `d_hn`, `d_cn` for
    /// --backward (docs/command.md has shapes and types); of an ONNX model, with its graph's inputs
    input: PathBuf,
    /// Safetensors file to write
    #[arg(long)]
    output: PathBuf,
    /// Also compute the gradients of the input, the initial states and every parameter, under PyTorch's names; of an ONNX model those
    /// of one recurrent node, under its tensors' names (see docs/models.md)
    #[arg(long)]
    backward: bool,
    #[arg(long, help = cell_help("Cell, instead of the one that the shapes tell; a GRU of Keras without bias needs it"))]
    cell: Option<String>,
    /// Who laid out the model's tensors, where names and shapes do not tell: pytorch, keras, cudnn (CuDNNLSTM, CuDNNGRU), haste,
    /// flax, mlx or equinox. `layout` in the file's metadata says the same
    #[arg(long)]
    from: Option<Family>,
    /// What stands before the names of the one network of a larger checkpoint, such as `encoder.lstm.`
    #[arg(long)]
    prefix: Option<String>,
    /// Take input, output and their gradients as [B,T,...] instead of [T,B,...]
    #[arg(long)]
    batch_first: bool,
    /// Mask every step whose features all have this value, as a Masking layer of Keras before the network does
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true)]
    mask_value: Option<f32>,
    /// Where a step is masked, put out 0 instead of the output of the step before, as Keras does with zero_output_for_mask=True
    #[arg(long)]
    zero_output_for_mask: bool,
    /// Run one recurrent node of an ONNX model alone: its name, or its index among them (see `tidegate inspect`). INPUT and OUTPUT
    /// then hold tensors under the names that the graph has at its ends
    #[arg(long, value_name = "NAME|INDEX")]
    node: Option<String>,
    /// `cpu`, or the number or a part of the name of an adapter (see `tidegate devices`)
    #[arg(long)]
    device: Option<String>,
    /// How the recurrence becomes dispatches: auto, stepwise, batched, resident or persistent; means nothing on `cpu`
    #[arg(long, default_value = "auto")]
    strategy: Strategy,
    /// How parameters, input and output are stored on the device, and the gradients of both: f32 or f16. The files stay f32; what
    /// f16 cannot hold is rounded
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
}

/// Where and how a network runs.
#[derive(Debug)]
struct Target {
    device: Device,
    strategy: Strategy,
    dtype: Dtype,
}

impl Target {
    fn new(args: &Args) -> Result<Self> {
        Ok(Self { device: device::select(args.device.as_deref(), false)?, strategy: args.strategy, dtype: args.dtype })
    }

    /// Last of all, so that an error stays the only line.
    fn note(&self, args: &Args) {
        if args.device.is_none() {
            self.device.note_software();
        }
    }

    /// Gives the results, and the file of tunings if that has a say in how the network runs.
    fn run(&self, model: &Model, call: Call) -> Result<(Results, Option<PathBuf>)> {
        match &self.device {
            Device::Gpu(ctx) => on_gpu(ctx, self, model, &call),
            Device::Cpu => Ok((on_cpu(self.dtype, model, call)?, None)),
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    files::check_outputs(&[&args.model, &args.input], &[("--output", Some(&args.output))])?;
    let not_onnx = [
        ("--cell", args.cell.is_some()),
        ("--from", args.from.is_some()),
        ("--prefix", args.prefix.is_some()),
        ("--batch-first", args.batch_first),
        ("--mask-value", args.mask_value.is_some()),
        ("--zero-output-for-mask", args.zero_output_for_mask),
    ];
    if onnx::is_model(&args.model, &not_onnx)? {
        return run_onnx(args);
    }
    if args.node.is_some() {
        return Err(format!("--node is for ONNX models; {} is not named *.onnx", args.model.display()).into());
    }
    let reading = Reading::default().with_cell(args.cell.as_deref()).with_prefix(args.prefix.as_deref()).with_family(args.from);
    let bytes = files::read(&args.model)?;
    let swapped = |error| match is_input(&bytes) {
        true => format!("{error}; its tensors are those of an INPUT: are MODEL and INPUT swapped?").into(),
        false => Failure::from(error),
    };
    let mut model = Model::read(&bytes, &reading).map_err(|error| files::at(&args.model, swapped(error)))?;
    model.config.batch_first = args.batch_first;
    model.config.zero_output_for_mask = args.zero_output_for_mask;
    let mut call = Call::read(&files::read(&args.input)?, &model, args.backward).map_err(|e| files::at(&args.input, e))?;
    let shape = call.shape;
    if let Some(value) = args.mask_value {
        if call.hold.is_some() {
            return Err(files::at(&args.input, "it holds `mask`: --mask-value makes one too, give one of them"));
        }
        call.hold = Some(masked_steps(&call.input, &model.config, shape, value)?);
    }
    let target = Target::new(args)?;
    let (results, tuned) = target.run(&model, call)?;
    write(args, &serialize(&model, shape, &results)?, tuned.as_deref())?;
    target.note(args);
    Ok(())
}

fn run_onnx(args: &Args) -> Result<()> {
    let graph = onnx::open(&args.model)?;
    let (node, at_input) = (args.node.as_deref(), |e| files::at(&args.input, e));
    let job = if args.backward { onnx::Job::with_gradients(&graph, node) } else { onnx::Job::new(&graph, node) };
    let job = job.map_err(|e| files::at(&args.model, e))?;
    let bytes = files::read(&args.input)?;
    let mut tuned = None;
    let mut remember = |(results, from): (Results, Option<PathBuf>)| {
        tuned = tuned.take().or(from);
        results
    };
    let (target, tensors) = if args.backward {
        let given = job.read_with_gradients(&bytes).map_err(at_input)?;
        let target = Target::new(args)?;
        let run =
            |part: &Part, seq: &Sequence<'_>, d: OutputGradients<'_>| Ok(remember(run_part(&target, &part.model, seq, Some(d))?));
        let tensors = job.run_back(&given, run)?;
        (target, tensors)
    } else {
        let given = job.read(&bytes).map_err(at_input)?;
        let target = Target::new(args)?;
        let tensors = job.run(&given, |part, seq| Ok(remember(run_part(&target, &part.model, seq, None)?).0))?;
        (target, tensors)
    };
    write(args, &onnx::serialize(&tensors)?, tuned.as_deref())?;
    target.note(args);
    Ok(())
}

/// Writes OUTPUT, and says what it has and whose tuning chose how it was computed.
fn write(args: &Args, bytes: &[u8], tuned: Option<&Path>) -> Result<()> {
    const NAMED: usize = 6;
    files::write(&args.output, bytes)?;
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors: Vec<String> = file.iter().map(|(name, tensor)| format!("{name} {:?}", tensor.shape())).collect();
    // The output first, gradients last.
    tensors.sort_by_key(|tensor| (tensor.starts_with("d_"), !tensor.starts_with("output "), tensor.clone()));
    let more = tensors.len().saturating_sub(NAMED);
    tensors.truncate(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let tuned = tuned.map_or_else(String::new, |file| format!("tuned before, from {}\n", file.display()));
    print(&format!("wrote {}: {}{more}\n{tuned}", args.output.display(), tensors.join(", ")))
}

fn on_gpu(ctx: &Context, target: &Target, model: &Model, call: &Call) -> Result<(Results, Option<PathBuf>)> {
    let rnn = Rnn::new(ctx, model.cell.clone(), model.config.clone())?;
    let rnn = rnn.with_strategy(target.strategy).with_dtype(target.dtype)?;
    // What `bench` found out earlier; nothing is measured here.
    let tunings = Tunings::load(ctx);
    let mode = if call.d_output.is_some() { Mode::Training } else { Mode::Inference };
    let is_tuned = target.strategy == Strategy::Auto && tunings.has(&rnn, call.shape, mode);
    let rnn = tunings.apply(rnn)?;
    let tuned = tunings.path().filter(|_| is_tuned).map(PathBuf::from);
    let params = rnn.upload(&model.params)?;
    let seq = call.sequence();
    let Some(d_output) = &call.d_output else { return Ok(((rnn.forward_blocking(&params, &seq)?, None), tuned)) };
    let d = OutputGradients { d_output, d_final_state: call.d_final_state.as_deref() };
    let (output, gradients) = rnn.backward_blocking(&params, &seq, &d)?;
    Ok(((output, Some(gradients)), tuned))
}

/// One network of an ONNX node.
fn run_part(
    target: &Target,
    model: &Model,
    seq: &Sequence<'_>,
    d: Option<OutputGradients<'_>>,
) -> Result<(Results, Option<PathBuf>)> {
    let call = Call {
        shape: seq.shape,
        input: seq.input.to_vec(),
        initial_state: seq.initial_state.map(<[f32]>::to_vec),
        lengths: seq.lengths.map(<[u32]>::to_vec),
        reset: None,
        hold: None,
        d_output: d.map(|d| d.d_output.to_vec()),
        d_final_state: d.and_then(|d| d.d_final_state).map(<[f32]>::to_vec),
    };
    target.run(model, call)
}

/// The reference, from what a device would have stored to what it would store.
fn on_cpu(dtype: Dtype, model: &Model, call: Call) -> Result<Results> {
    cpu::check_memory(&model.cell, &model.config, call.shape, call.d_output.is_some())?;
    let stored = |values: &[f32]| values.iter().map(|&value| dtype.round(value).into()).collect::<Vec<f64>>();
    let run = CpuRun {
        cell: &model.cell,
        config: &model.config,
        params: stored(model.params.values()),
        shape: call.shape,
        input: stored(&call.input),
        initial_state: call.initial_state.as_deref().map(widen),
        lengths: call.lengths,
        reset: call.reset,
        hold: call.hold,
        d_output: call.d_output.as_deref().map(stored),
        d_final_state: call.d_final_state.as_deref().map(widen),
    };
    let (output, gradients) = run.run()?;
    let result = |values: &[f64]| values.iter().map(|&value| dtype.round(value as f32)).collect();
    let gradients = gradients.map(|d| Gradients {
        d_input: result(&d.d_input),
        d_params: narrow(&d.d_params),
        d_initial_state: narrow(&d.d_initial_state),
    });
    Ok((Output { output: result(&output.output), final_state: narrow(&output.final_state) }, gradients))
}
