//! A graph on its way from its inputs to its outputs: which nodes are to come, and which tensors are there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::Graph;
use super::call::Call;
use super::host::{self, Array, Budget, Data};
use super::names::describe;
use super::node::{Node, check_declared};
use super::operator::Operator;
use super::proto::{self, NodeProto, ValueInfo};
use super::scope::{Blocked, Scope, Source, Step, Values};
use super::tensor::{self, Tensor, Tensors};
use crate::error::{Error, Result};

/// Most nodes that a message names.
const NAMED: usize = 100;

/// Most steps that are looked at at a time.
pub const WINDOW: usize = 1000;

impl Graph {
    /// The nodes that the graph's outputs need and that [`run`](Graph::run) does not run: operator and name of each.
    pub fn unsupported(&self) -> Vec<String> {
        let scope = self.scope();
        let all = scope.order(self.outputs(), |_| true, |step| step.inputs());
        let needed = all.unwrap_or_default().into_iter().filter(|step| !runs(step.node, self.opset));
        needed.map(|step| describe(step.node)).collect()
    }

    /// All nodes of the graph itself: operator and name of each.
    pub fn describe_nodes(&self) -> Vec<String> {
        self.graph.node.iter().map(describe).collect()
    }

    /// Refuses an initializer that no node reads: weights would be lost without a word.
    fn check_used(&self) -> Result<()> {
        fn read<'a>(graph: &'a proto::GraphProto, names: &mut BTreeSet<&'a str>) {
            names.extend(graph.output.iter().map(|value| &*value.name));
            for node in &graph.node {
                names.extend(node.input.iter().map(|name| &**name));
                let subgraphs = node.attribute.iter().flat_map(proto::AttributeProto::subgraphs);
                subgraphs.for_each(|graph| read(graph, names));
            }
        }
        let mut names = BTreeSet::new();
        read(&self.graph, &mut names);
        match self.graph.initializer.iter().find(|tensor| !names.contains(&*tensor.name)) {
            Some(tensor) => Err(Error::UnusedTensor { name: tensor.name.clone() }),
            None => Ok(()),
        }
    }
}

fn runs(node: &NodeProto, opset: i64) -> bool {
    host::runs(node, opset) || Operator::of(node).is_some()
}

/// Some names in a row.
fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// A graph on its way from one recurrent node to the next.
pub(super) struct Run<'a> {
    pub graph: &'a Graph,
    pub scope: Arc<Scope<'a>>,
    /// The nodes to come, each after those that it needs.
    pub rest: Vec<Step<'a>>,
    /// The recurrent nodes that wait for their outputs.
    pub waiting: Vec<Step<'a>>,
    pub values: Values<'a>,
    /// How often each tensor is still to be read.
    uses: HashMap<&'a str, usize>,
    budget: Budget,
}

impl<'a> Run<'a> {
    pub fn new(graph: &'a Graph, given: &Tensors) -> Result<Self> {
        let scope = graph.scope();
        if graph.graph.output.is_empty() {
            return Err(Error::Onnx("the graph has no outputs".into()));
        }
        if graph.graph.node.is_empty() {
            return Err(Error::Onnx("the graph has no nodes".into()));
        }
        graph.check_used()?;
        let allowed = |source: &Source<'a>| match source {
            Source::Input(value, default) => default.is_some() || given.contains_key(&value.name),
            Source::Node(node) => runs(node, graph.opset),
            _ => true,
        };
        let order = scope.order(graph.outputs(), allowed, needs).map_err(|blocked| refused(graph, blocked))?;
        if !order.iter().any(|step| Node::new(step.node, &step.scope).is_some()) {
            return Err(Error::Onnx("the graph's outputs need no RNN, LSTM or GRU node".into()));
        }
        let mut uses: HashMap<&str, usize> = HashMap::new();
        for name in order.iter().flat_map(needs).chain(graph.outputs()) {
            *uses.entry(name).or_default() += 1;
        }
        let budget = Budget::new(graph.bytes);
        let mut values = Values::default();
        for (name, array) in inputs(graph, given)? {
            budget.extend(array.len() * array.width());
            values.insert_one(&scope, name, array);
        }
        Ok(Self { graph, scope, rest: order, waiting: Vec::new(), values, uses, budget })
    }

    /// Runs what is ready among the next nodes of the host; the first node to come always is.
    pub fn run_host(&mut self) -> Result<()> {
        let mut waiting = Vec::new();
        let mut steps = std::mem::take(&mut self.rest).into_iter();
        for step in steps.by_ref() {
            let ready =
                Node::new(step.node, &step.scope).is_none() && step.inputs().iter().all(|name| self.is_there(&self.values, name));
            if !ready {
                waiting.push(step);
                if waiting.len() == WINDOW {
                    break;
                }
                continue;
            }
            let made = step.run(&self.values, &self.budget)?;
            self.values.insert(&step, made);
            self.release(&step);
        }
        self.rest = waiting.into_iter().chain(steps).collect();
        Ok(())
    }

    /// Whether a tensor is among values or in the file.
    pub fn is_there(&self, values: &Values<'a>, name: &'a str) -> bool {
        let in_file = || matches!(self.scope.find(name), Some((_, Source::Constant(_) | Source::Input(_, Some(_)))));
        values.made(&self.scope, name).is_some() || in_file()
    }

    pub fn call_of(&self, values: &Values<'a>, step: &Step<'a>) -> Result<Call> {
        let Some(node) = Node::new(step.node, &step.scope) else {
            return Err(Error::Onnx(format!("{}: its inputs are missing", describe(step.node))));
        };
        let mut given = Tensors::new();
        for (_, name) in node.open_inputs() {
            if let Some(array) = values.made(&self.scope, name) {
                given.insert(name.into(), Tensor::from_array(name, array, &self.budget)?);
            }
        }
        node.call(&given)
    }

    /// Goes on from the outputs of the nodes that wait.
    pub fn resume(&mut self, outputs: Tensors) {
        for step in std::mem::take(&mut self.waiting) {
            for name in &step.node.output {
                if let Some(tensor) = outputs.get(name) {
                    let array = tensor.clone().into_array();
                    self.budget.extend(array.len() * array.width());
                    self.values.insert_one(&self.scope, name, array);
                }
            }
            self.release(&step);
        }
    }

    /// Drops what nobody will read any more.
    pub fn release(&mut self, step: &Step<'a>) {
        for name in needs(step) {
            if let Some(uses) = self.uses.get_mut(name) {
                *uses -= 1;
                if *uses == 0 {
                    self.values.remove(&self.scope, name);
                }
            }
        }
        let unused = step.node.output.iter().filter(|name| !self.uses.contains_key(&***name));
        unused.for_each(|name| self.values.remove(&self.scope, name));
    }

    pub fn finish(self) -> Result<Tensors> {
        let mut outputs = Tensors::new();
        for name in self.graph.outputs() {
            let Some(array) = self.values.get(&self.scope, name, &self.budget)? else {
                return Err(Error::Onnx(format!("the graph's output `{name}` was not made")));
            };
            outputs.insert(name.into(), Tensor::from_array(name, &array, &self.budget)?);
        }
        Ok(outputs)
    }
}

/// What a node reads that has to be there before it runs. A recurrent one folds its constants itself.
pub(super) fn needs<'a>(step: &Step<'a>) -> Vec<&'a str> {
    match Node::new(step.node, &step.scope) {
        Some(node) => node.open_inputs().into_iter().map(|(_, name)| name).collect(),
        None => step.inputs(),
    }
}

fn refused(graph: &Graph, blocked: Blocked<'_>) -> Error {
    match blocked {
        Blocked::Input(name) => Error::MissingTensor { name: name.into() },
        Blocked::Node(_) => {
            let (unsupported, all) = (graph.unsupported(), graph.describe_nodes());
            let (count, all) = (all.len(), listed(&all));
            let what = format!("{} not run here; the graph has {count} nodes: {all}", listed(&unsupported));
            Error::Onnx(what)
        }
        other => Error::Onnx(format!("the graph's outputs need {}", other.describe())),
    }
}

/// The given tensors, each in the type that the graph declares, checked against its shape. A size that has a name is the same
/// wherever the graph has that name.
fn inputs<'a>(graph: &'a Graph, given: &Tensors) -> Result<Vec<(&'a str, Array)>> {
    let mut named: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    let mut arrays = Vec::new();
    if let Some(name) = given.keys().find(|name| graph.inputs().all(|input| input != **name)) {
        return Err(Error::UnusedTensor { name: name.clone() });
    }
    for value in &graph.graph.input {
        let Some(given) = given.get(&value.name) else { continue };
        given.check_len(&value.name)?;
        check_declared(&value.name, value, given)?;
        for (dim, size) in sizes(value).iter().zip(&given.shape).filter(|(dim, _)| !dim.dim_param.is_empty()) {
            let (first, known) = *named.entry(&dim.dim_param).or_insert((&value.name, *size));
            if known != *size {
                let (dim, name) = (&dim.dim_param, &value.name);
                return Err(Error::Onnx(format!("`{dim}` is {known} in the input `{first}`, but {size} in `{name}`")));
            }
        }
        let array = given.clone().into_array();
        arrays.push((&*value.name, in_declared_type(value, array)?));
    }
    Ok(arrays)
}

fn sizes(value: &ValueInfo) -> &[proto::Dimension] {
    let tensor = value.r#type.as_ref().and_then(|declared| declared.tensor_type.as_ref());
    tensor.and_then(|tensor| tensor.shape.as_ref()).map_or(&[], |shape| &shape.dim)
}

/// Integers of 32 and of 64 bits may be given for each other.
fn in_declared_type(value: &ValueInfo, array: Array) -> Result<Array> {
    let declared = value.r#type.as_ref().and_then(|declared| declared.tensor_type.as_ref()).map_or(0, |t| t.elem_type);
    match array.data() {
        (Data::I64(values), range) if declared == proto::INT32 => {
            let narrow = |value: &i64| {
                i32::try_from(*value).map_err(|_| tensor::dtype(&value.to_string(), "a value that INT32 holds", "INT64"))
            };
            let narrow = values[range].iter().map(narrow).collect::<Result<_>>()?;
            Ok(Array::new(array.shape().to_vec(), Data::I32(narrow), None))
        }
        (Data::I32(values), range) if declared == proto::INT64 => {
            let wide = values[range].iter().map(|&value| value.into()).collect();
            Ok(Array::new(array.shape().to_vec(), Data::I64(wide), None))
        }
        _ => Ok(array),
    }
}
