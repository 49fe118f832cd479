//! `tidegate inspect`: what is in a model file, and what of it would be refused.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use tidegate::import::onnx::{Graph, Node};
use tidegate::import::{Model, open_safetensors};

use crate::args::files;
use crate::run::onnx;
use crate::{Result, print};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A model as `tidegate run` takes it: safetensors or ONNX
    model: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let text = if onnx::is_model(&args.model, &[])? { of_graph(&onnx::open(&args.model)?) } else { of_weights(&args.model)? };
    print(&text)
}

/// One line for the graph, one for each recurrent node, one for how it runs.
fn of_graph(graph: &Graph) -> String {
    let nodes = graph.nodes();
    let (inputs, outputs) = (graph.describe_inputs().join(", "), graph.outputs().collect::<Vec<_>>().join("`, `"));
    let (opset, count) = (graph.opset(), graph.describe_nodes().len());
    let mut text = format!("ONNX, opset {opset}, {count} nodes; inputs {inputs}; outputs `{outputs}`\n");
    for (at, node) in nodes.iter().enumerate() {
        let _ = writeln!(text, "  {at}: {} `{}`: {}", node.op_type(), node.name(), of_node(node));
    }
    let unsupported = graph.unsupported();
    let verdict = match unsupported.is_empty() {
        _ if nodes.is_empty() => "refused: it has no RNN, LSTM or GRU node".into(),
        true => "runs as a whole".into(),
        false => format!("does not run as a whole: {}", onnx::refusal(graph, &unsupported)),
    };
    // Names may hold anything.
    let lines: Vec<String> = text.lines().chain([&*verdict]).map(|line| line.replace(char::is_control, " ")).collect();
    lines.join("\n") + "\n"
}

fn of_node(node: &Node<'_>) -> String {
    let open =
        node.open_inputs().into_iter().map(|(role, name)| if role == name { role.into() } else { format!("{role} = `{name}`") });
    let open = open.collect::<Vec<_>>().join(", ");
    let quantized = if node.is_quantized() { "; weights of 8 bits, dequantized" } else { "" };
    match node.models() {
        Ok(models) => {
            let models = models.iter().map(of_model).collect::<Vec<_>>().join(" and ");
            format!("{models}{quantized}; it is given {open}")
        }
        // Weights that are inputs are no fault.
        Err(tidegate::Error::MissingTensor { name }) => format!("its weights are inputs (`{name}`); it is given {open}"),
        Err(error) => format!("refused: {error}"),
    }
}

fn of_model(model: &Model) -> String {
    let config = &model.config;
    let direction = format!("{:?}", config.direction).to_lowercase();
    let (cell, layers) = (model.cell.name(), config.num_layers);
    let bias = if config.bias { "with" } else { "without" };
    let projected = if config.proj_size > 0 { format!(" projected to {}", config.proj_size) } else { String::new() };
    format!(
        "{cell}, input {}, hidden {}{projected}, {layers} layer{}, {direction}, {bias} bias, {} parameters",
        config.input_size,
        config.hidden_size,
        if layers == 1 { "" } else { "s" },
        model.params.values().len()
    )
}

/// One line for each network that a file of weights has, by what stands before its names.
fn of_weights(path: &Path) -> Result<String> {
    let bytes = files::read(path)?;
    let file = open_safetensors(&bytes).map_err(|e| files::at(path, e))?;
    let mut text = format!("safetensors, {} tensors\n", file.len());
    if let Ok(model) = Model::from_weights(&bytes, None) {
        let _ = writeln!(text, "  {}: {}", prefixed(&model.prefix), of_model(&model));
        return Ok(text);
    }
    let prefixes: BTreeSet<&str> = file
        .names()
        .into_iter()
        .filter_map(|name| ["weight_ih_l0", "weight_ih"].iter().find_map(|end| name.strip_suffix(end)))
        .collect();
    for prefix in &prefixes {
        match Model::from_safetensors_at(&bytes, prefix, None) {
            Ok(model) => drop(writeln!(text, "  {}: {}", prefixed(prefix), of_model(&model))),
            Err(error) => drop(writeln!(text, "  {}: refused: {error}", prefixed(prefix))),
        }
    }
    if let Err(error) = Model::from_weights(&bytes, None) {
        let _ = writeln!(text, "does not run as a whole: {error}");
    }
    Ok(text.lines().map(|line| line.replace(char::is_control, " ") + "\n").collect())
}

fn prefixed(prefix: &str) -> String {
    if prefix.is_empty() { "a network".into() } else { format!("`{prefix}`") }
}
