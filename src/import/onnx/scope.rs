//! Where the tensors of a graph come from, and which nodes make them.

use std::collections::HashMap;
use std::sync::Arc;

use super::external::Files;
use super::host::{self, Array, Budget};
use super::names::describe;
use super::proto::{GraphProto, NodeProto, TensorProto, ValueInfo};
use super::{operator, tensor};
use crate::error::{Error, Result};

/// What all graphs of a model share.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    pub opset: i64,
    pub files: &'a Files,
    /// The size of the model.
    pub bytes: usize,
}

/// What a graph defines, with the graph around it.
#[derive(Debug)]
pub struct Scope<'a> {
    pub graph: &'a GraphProto,
    pub setting: Setting<'a>,
    parent: Option<Arc<Scope<'a>>>,
    defined: HashMap<&'a str, Source<'a>>,
}

/// What defines a tensor.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    Constant(&'a TensorProto),
    Sparse,
    /// An input of a graph, with its default.
    Input(&'a ValueInfo, Option<&'a TensorProto>),
    Node(&'a NodeProto),
}

/// Why a tensor cannot be had.
#[derive(Debug, Clone, Copy)]
pub enum Blocked<'a> {
    Input(&'a str),
    Node(&'a NodeProto),
    Cycle(&'a str),
    Nothing(&'a str),
    Sparse(&'a str),
}

impl Blocked<'_> {
    /// What it is, to follow "needs".
    pub fn describe(&self) -> String {
        let text = match self {
            Self::Input(name) => format!("the graph's input `{name}`"),
            Self::Node(node) => describe(node),
            Self::Cycle(name) => format!("`{name}`, which depends on itself: the graph has a cycle"),
            Self::Nothing(name) => {
                format!("`{name}`, which is neither an initializer nor an input of the graph, and no node makes it")
            }
            Self::Sparse(name) => format!("`{name}`, a sparse initializer; only dense ones are read"),
        };
        text.escape_debug().to_string().replace("\\'", "'")
    }
}

/// A node with the scope that its inputs are looked up in.
pub struct Step<'a> {
    pub scope: Arc<Scope<'a>>,
    pub node: &'a NodeProto,
}

impl<'a> Scope<'a> {
    pub fn new(graph: &'a GraphProto, parent: Option<Arc<Self>>, setting: Setting<'a>) -> Arc<Self> {
        let mut defined = HashMap::new();
        // If there are several the last one counts: an input rather than its default, either rather than a node's output.
        for node in graph.node.iter().rev() {
            defined.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (&**name, Source::Node(node))));
        }
        let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
        defined.extend(sparse.map(|values| (&*values.name, Source::Sparse)));
        let initializers: HashMap<&str, _> = graph.initializer.iter().map(|tensor| (&*tensor.name, tensor)).collect();
        defined.extend(initializers.iter().map(|(name, tensor)| (*name, Source::Constant(tensor))));
        let inputs = graph.input.iter().map(|value| (&*value.name, value));
        defined.extend(inputs.map(|(name, value)| (name, Source::Input(value, initializers.get(name).copied()))));
        Arc::new(Self { graph, setting, parent, defined })
    }

    /// What defines a tensor, here or in the graphs around.
    pub fn find(self: &Arc<Self>, name: &str) -> Option<(Arc<Self>, Source<'a>)> {
        let mut scope = self;
        loop {
            if let Some(source) = scope.defined.get(name) {
                return Some((scope.clone(), *source));
            }
            scope = scope.parent.as_ref()?;
        }
    }

    /// The nodes that make tensors, each after those that make the `inputs` it needs; or the first thing in their way that is not
    /// `allowed`.
    pub fn order(
        self: &Arc<Self>,
        names: impl IntoIterator<Item = &'a str>,
        allowed: impl Fn(&Source<'a>) -> bool,
        inputs: impl Fn(&Step<'a>) -> Vec<&'a str>,
    ) -> Result<Vec<Step<'a>>, Blocked<'a>> {
        // Whether the inputs of a node that was met are there.
        let mut done: HashMap<*const NodeProto, bool> = HashMap::new();
        let mut order = Vec::new();
        let wanted = |scope: &Arc<Self>, name: &'a str, done: &mut HashMap<_, bool>| match scope.find(name) {
            None => Err(Blocked::Nothing(name)),
            Some((_, Source::Sparse)) => Err(Blocked::Sparse(name)),
            Some((_, Source::Constant(_))) => Ok(None),
            Some((_, source @ Source::Input(..))) if allowed(&source) => Ok(None),
            Some((_, Source::Input(..))) => Err(Blocked::Input(name)),
            Some((scope, source @ Source::Node(node))) => match done.get(&std::ptr::from_ref(node)) {
                Some(true) => Ok(None),
                Some(false) => Err(Blocked::Cycle(name)),
                None if !allowed(&source) => Err(Blocked::Node(node)),
                None => {
                    done.insert(std::ptr::from_ref(node), false);
                    let step = Step { scope, node };
                    Ok(Some((inputs(&step).into_iter(), step)))
                }
            },
        };
        for name in names {
            let mut stack = Vec::from_iter(wanted(self, name, &mut done)?);
            while let Some((inputs, step)) = stack.last_mut() {
                if let Some(name) = inputs.next() {
                    let scope = step.scope.clone();
                    stack.extend(wanted(&scope, name, &mut done)?);
                } else if let Some((_, step)) = stack.pop() {
                    done.insert(std::ptr::from_ref(step.node), true);
                    order.push(step);
                }
            }
        }
        Ok(order)
    }

    /// The nodes that make a constant out of constants; or what it hangs on.
    pub fn order_of_constant(self: &Arc<Self>, name: &'a str) -> Result<Vec<Step<'a>>, Blocked<'a>> {
        let allowed = |source: &Source<'a>| match source {
            Source::Input(_, default) => default.is_some(),
            Source::Node(node) => host::runs(node, self.setting.opset),
            _ => true,
        };
        self.order([name], allowed, Step::inputs)
    }

    /// The value of a constant, folded; or what it hangs on.
    pub fn constant(self: &Arc<Self>, name: &'a str) -> Result<Result<Array, Blocked<'a>>> {
        let order = match self.order_of_constant(name) {
            Ok(order) => order,
            Err(blocked) => return Ok(Err(blocked)),
        };
        let budget = Budget::new(self.setting.bytes);
        let mut values = Values::default();
        for step in &order {
            let made = step.run(&values, &budget)?;
            values.insert(step, made);
        }
        match values.get(self, name, &budget)? {
            Some(array) => Ok(Ok(array)),
            None => Ok(Err(Blocked::Nothing(name))),
        }
    }
}

/// Values of tensors by their names, each in the scope that defines it.
#[derive(Debug, Clone, Default)]
pub struct Values<'a>(HashMap<(*const Scope<'a>, &'a str), Array>);

impl<'a> Values<'a> {
    pub fn insert(&mut self, step: &Step<'a>, made: Vec<Array>) {
        let named = step.node.output.iter().zip(made).filter(|(name, _)| !name.is_empty());
        self.0.extend(named.map(|(name, array)| ((Arc::as_ptr(&step.scope), &**name), array)));
    }

    /// One that a graph has of its caller.
    pub fn insert_one(&mut self, scope: &Arc<Scope<'a>>, name: &'a str, array: Array) {
        self.0.insert((Arc::as_ptr(scope), name), array);
    }

    pub fn remove(&mut self, scope: &Arc<Scope<'a>>, name: &'a str) {
        self.0.remove(&(Arc::as_ptr(scope), name));
    }

    /// A value that is there.
    pub fn made(&self, scope: &Arc<Scope<'a>>, name: &'a str) -> Option<&Array> {
        let (scope, _) = scope.find(name)?;
        self.0.get(&(Arc::as_ptr(&scope), name))
    }

    /// A value that is there, or a constant of the file.
    pub fn get(&self, scope: &Arc<Scope<'a>>, name: &'a str, budget: &Budget) -> Result<Option<Array>> {
        let Some((scope, source)) = scope.find(name) else { return Ok(None) };
        if let Some(array) = self.0.get(&(Arc::as_ptr(&scope), name)) {
            return Ok(Some(array.clone()));
        }
        match source {
            Source::Constant(proto) | Source::Input(_, Some(proto)) => {
                tensor::read(name, proto, scope.setting.files, budget).map(Some)
            }
            _ => Ok(None),
        }
    }
}

impl<'a> Step<'a> {
    /// Names of all the node's inputs that are there.
    pub fn inputs(&self) -> Vec<&'a str> {
        self.node.input.iter().map(|name| &**name).filter(|name| !name.is_empty()).collect()
    }

    /// Runs a node of the host on values that are there.
    pub fn run(&self, values: &Values<'a>, budget: &Budget) -> Result<Vec<Array>> {
        let Setting { opset, files, .. } = self.scope.setting;
        let mut inputs = Vec::new();
        for name in &self.node.input {
            let input = if name.is_empty() { None } else { values.get(&self.scope, name, budget)? };
            if input.is_none() && !name.is_empty() {
                return Err(Error::Onnx(format!("{}: its input `{name}` is missing", describe(self.node))));
            }
            inputs.push(input);
        }
        let made = self.node.output.first().map_or("", |name| name);
        host::run(self.node, opset, inputs, budget, &|attribute| tensor::read(made, operator::tensor(attribute)?, files, budget))
    }
}
