//! `tidegate gates`: what a network copies and what it renews, as a page of heat maps.

mod base64;
mod page;
mod window;

use std::path::{Path, PathBuf};

use tidegate::gates::{maps, passes};
use tidegate::import::{Family, Model, Reading};
use tidegate::reference::device::{check_memory, widen};
use tidegate::{Error, Mode, Sequence, reference};

use crate::args::files;
use crate::run::onnx;
use crate::run::tensors::Call;
use crate::{Result, print};
use page::{Group, Page};
use window::{Steps, Window};

/// Most values of a page: 11 MiB of it.
const MAX_VALUES: usize = 8 << 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A network, as `tidegate run` takes it
    model: PathBuf,
    /// Its input, as `tidegate run` takes it
    input: PathBuf,
    /// Page to write: one file that needs no network, with a map of every gate and state of every layer and direction. Values are
    /// those of the float64 CPU reference, in 256 levels
    #[arg(long)]
    html: PathBuf,
    /// Show this row of the batch alone, counted from 0
    #[arg(long)]
    row: Option<usize>,
    /// Show these steps alone, as FROM..TO, without TO itself. The network runs through all of them
    #[arg(long)]
    steps: Option<Steps>,
    /// Cell, instead of the one that the shapes tell, as of `tidegate run`
    #[arg(long)]
    cell: Option<String>,
    /// Who laid out the model's tensors, as of `tidegate run`
    #[arg(long)]
    from: Option<Family>,
    /// What stands before the names of the one network of a larger checkpoint, as of `tidegate run`
    #[arg(long)]
    prefix: Option<String>,
    /// Take the input as [B,T,...] instead of [T,B,...]
    #[arg(long)]
    batch_first: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let not_onnx = [
        ("--cell", args.cell.is_some()),
        ("--from", args.from.is_some()),
        ("--prefix", args.prefix.is_some()),
        ("--batch-first", args.batch_first),
    ];
    if onnx::is_model(&args.model, &not_onnx)? {
        let graph = onnx::open(&args.model)?;
        let node = graph.only_node().map_err(|e| files::at(&args.model, e))?;
        let given = onnx::read_node(&node, &files::read(&args.input)?).map_err(|e| files::at(&args.input, e))?;
        let call = node.call(&given)?;
        let parts = call.parts().iter().map(|part| (&part.model, call.sequence(part)));
        return draw(args, &parts.collect::<Vec<_>>());
    }
    let reading = Reading::default().with_cell(args.cell.as_deref()).with_prefix(args.prefix.as_deref()).with_family(args.from);
    let mut model = Model::read(&files::read(&args.model)?, &reading).map_err(|e| files::at(&args.model, e))?;
    model.config.batch_first = args.batch_first;
    let call = Call::read(&files::read(&args.input)?, &model, false).map_err(|e| files::at(&args.input, e))?;
    draw(args, &[(&model, call.sequence())])
}

/// The networks are one, or the two directions of an ONNX node that differ in their activations.
fn draw(args: &Args, networks: &[(&Model, Sequence<'_>)]) -> Result<()> {
    let (model, seq) = &networks[0];
    let window = Window::new(seq, args.row, args.steps)?;
    let maps: usize = networks.iter().map(|(model, _)| count_maps(model)).sum();
    let values = window.len().saturating_mul(model.config.hidden_size).saturating_mul(maps);
    if values > MAX_VALUES {
        let what = format!("a page of {values} values is too large, {MAX_VALUES} are possible: choose with --row and --steps");
        return Err(what.into());
    }
    let mut groups = Vec::new();
    for (model, seq) in networks {
        groups.extend(run_network(model, seq, &window)?);
    }
    let title = format!("{} on {}", file_name(&args.model), file_name(&args.input));
    let formula = model.cell.spec().formula.into_owned();
    let units = model.config.hidden_size;
    let page = Page { title, window, units, formula, groups };
    files::write(&args.html, page.html()?.as_bytes())?;
    print(&format!("wrote {}: {maps} maps of {units} units\n", args.html.display()))
}

fn count_maps(model: &Model) -> usize {
    let spec = model.cell.spec();
    let per_direction = spec.gates.len() + spec.states.len();
    model.config.num_layers * model.config.num_directions() * per_direction
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into()
}

/// A group for each layer and direction.
fn run_network(model: &Model, seq: &Sequence<'_>, window: &Window) -> Result<Vec<Group>> {
    let (cell, config) = (&*model.cell, &model.config);
    check_memory(cell, config, seq.shape, true)?;
    let (params, input) = (widen(model.params.values()), widen(seq.input));
    let initial_state = seq.initial_state.map(widen);
    let wide = Sequence::new(seq.shape, &input);
    let wide = Sequence { reset: seq.reset, hold: seq.hold, ..wide };
    let wide = Sequence { initial_state: initial_state.as_deref(), lengths: seq.lengths, ..wide };
    let trace = reference::forward(cell, config, &params, &wide, Mode::Training)?;

    let rows: Vec<Option<usize>> = window.indices().collect();
    let mut groups = Vec::new();
    for (pass, name) in passes(config) {
        let maps = maps(cell, &trace, pass, config.hidden_size, &rows).map_err(|error| match error {
            Error::NoColour { .. } => format!("{name}: {error}: try fewer --steps"),
            error => format!("{name}: {error}"),
        })?;
        groups.push(Group { name, cell: cell.name().into(), maps });
    }
    Ok(groups)
}
