//! The three operators and their attributes: from a node to cells.

use std::sync::Arc;

use prost::bytes::Bytes;

use super::names::is_onnx;
use super::proto::{ATTRIBUTE_TYPES, AttributeProto, NodeProto, TensorProto};
use crate::cell::activation::Activation;
use crate::cell::{Cell, Elman, Gru, Lstm};
use crate::error::{Error, Result};
use crate::network::config::Direction;

/// A recurrent operator of ONNX.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Rnn,
    Gru,
    Lstm,
    /// `DynamicQuantizeLSTM` of com.microsoft: an LSTM but for its weights.
    QuantizedLstm,
}

impl Operator {
    pub fn of(node: &NodeProto) -> Option<Self> {
        if !is_onnx(&node.domain) {
            let is_quantized = node.domain == "com.microsoft" && node.op_type == "DynamicQuantizeLSTM";
            return is_quantized.then_some(Self::QuantizedLstm);
        }
        Some(match &*node.op_type {
            "RNN" => Self::Rnn,
            "GRU" => Self::Gru,
            "LSTM" => Self::Lstm,
            _ => return None,
        })
    }

    fn is_lstm(self) -> bool {
        matches!(self, Self::Lstm | Self::QuantizedLstm)
    }

    /// Names of its inputs, in order.
    pub fn inputs(self) -> &'static [&'static str] {
        const INPUTS: [&str; 12] = [
            "X",
            "W",
            "R",
            "B",
            "sequence_lens",
            "initial_h",
            "initial_c",
            "P",
            "W_scale",
            "W_zero_point",
            "R_scale",
            "R_zero_point",
        ];
        match self {
            Self::Rnn | Self::Gru => &INPUTS[..6],
            Self::Lstm => &INPUTS[..8],
            Self::QuantizedLstm => &INPUTS,
        }
    }

    /// Names of its outputs, in order.
    pub fn outputs(self) -> &'static [&'static str] {
        const OUTPUTS: [&str; 3] = ["Y", "Y_h", "Y_c"];
        if self.is_lstm() { &OUTPUTS } else { &OUTPUTS[..2] }
    }

    /// Which of its blocks of rows is that of each of the cell's gates: i, o, f, c for i, f, g, o and z, r, h for r, z, n.
    pub fn gate_blocks(self) -> &'static [usize] {
        match self {
            Self::Rnn => &[0],
            Self::Gru => &[1, 0, 2],
            Self::Lstm | Self::QuantizedLstm => &[0, 2, 3, 1],
        }
    }

    /// f, then g, then h, as far as it has them.
    fn default_activations(self) -> &'static [Activation] {
        match self {
            Self::Rnn => &[Activation::Tanh],
            Self::Gru => &[Activation::Sigmoid, Activation::Tanh],
            Self::Lstm | Self::QuantizedLstm => &[Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
        }
    }
}

const LAYOUT_OPSET: i64 = 14;

/// What a node's attributes say.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attributes {
    pub operator: Operator,
    pub direction: Direction,
    pub hidden_size: Option<usize>,
    /// Whether X, Y and the states have the batch first.
    pub layout: bool,
    /// f, g, h of each direction.
    activations: Vec<Vec<Activation>>,
    clip: Option<f32>,
    input_forget: bool,
    linear_before_reset: bool,
}

impl Attributes {
    pub fn read(operator: Operator, node: &NodeProto, opset: i64) -> Result<Self> {
        let mut attributes = Self {
            operator,
            direction: Direction::Forward,
            hidden_size: None,
            layout: false,
            activations: Vec::new(),
            clip: None,
            input_forget: false,
            linear_before_reset: false,
        };
        let (mut names, mut alpha, mut beta): (&[Bytes], &[f32], &[f32]) = (&[], &[], &[]);
        for (at, attribute) in node.attribute.iter().enumerate() {
            let name = &*attribute.name;
            if node.attribute[..at].iter().any(|earlier| earlier.name == name) {
                return Err(wrong(name, "is there twice"));
            }
            match (name, operator) {
                ("direction", _) => attributes.direction = direction(text(name, string(attribute)?)?)?,
                ("hidden_size", _) => {
                    let value = int(attribute)?;
                    let size = usize::try_from(value).ok().filter(|&size| size > 0);
                    attributes.hidden_size = Some(size.ok_or_else(|| wrong(name, &format!("is {value}, must be positive")))?);
                }
                ("layout", _) if opset < LAYOUT_OPSET => {
                    let what = format!("came with opset {LAYOUT_OPSET}; the model imports {opset}");
                    return Err(wrong(name, &what));
                }
                ("layout", Operator::Rnn | Operator::Gru | Operator::Lstm) => attributes.layout = flag(attribute)?,
                ("clip", _) => attributes.clip = Some(float(attribute)?),
                ("activations", _) => names = strings(attribute)?,
                ("activation_alpha", _) => alpha = floats(attribute)?,
                ("activation_beta", _) => beta = floats(attribute)?,
                ("input_forget", operator) if operator.is_lstm() => attributes.input_forget = flag(attribute)?,
                // "when linear_before_reset != 0".
                ("linear_before_reset", Operator::Gru) => attributes.linear_before_reset = int(attribute)? != 0,
                _ => return Err(wrong(name, &format!("is not an attribute of {}", node.op_type))),
            }
        }
        attributes.activations = activations(operator, attributes.num_directions(), names, alpha, beta)?;
        Ok(attributes)
    }

    pub fn num_directions(&self) -> usize {
        if self.direction == Direction::Bidirectional { 2 } else { 1 }
    }

    /// Shape of `initial_h` and the other states.
    pub fn state_shape(&self, batch_size: usize, hidden_size: usize) -> [usize; 3] {
        let directions = self.num_directions();
        if self.layout { [batch_size, directions, hidden_size] } else { [directions, batch_size, hidden_size] }
    }

    /// Whether one cell serves all directions.
    pub fn is_uniform(&self) -> bool {
        self.activations.iter().all(|of_direction| *of_direction == self.activations[0])
    }

    /// The cell of a direction.
    pub fn cell(&self, direction: usize, peepholes: bool) -> Arc<dyn Cell> {
        let clip = self.clip;
        match (self.operator, &*self.activations[direction]) {
            (Operator::Lstm | Operator::QuantizedLstm, &[f, g, h]) => {
                let cell = Lstm::default().with_activations(f, g, h).with_input_forget(self.input_forget);
                let cell = cell.with_peepholes(peepholes);
                Arc::new(clip.into_iter().fold(cell, Lstm::with_clip))
            }
            (Operator::Gru, &[f, g]) if self.linear_before_reset => {
                Arc::new(clip.into_iter().fold(Gru::default().with_activations(f, g), Gru::with_clip))
            }
            (Operator::Gru, &[f, g]) => {
                let cell = Gru::reset_before().with_activations(f, g);
                Arc::new(clip.into_iter().fold(cell, Gru::with_clip))
            }
            (_, activations) => Arc::new(clip.into_iter().fold(Elman::new(activations[0]), Elman::with_clip)),
        }
    }
}

/// The functions of each direction. Values of alpha and of beta are consumed in order by the functions that have such a
/// parameter; those beyond get ONNX's defaults, and a value that none consumes is refused.
fn activations(
    operator: Operator,
    directions: usize,
    names: &[Bytes],
    alpha: &[f32],
    beta: &[f32],
) -> Result<Vec<Vec<Activation>>> {
    let default = operator.default_activations();
    let mut names = names.iter().map(|name| text("activations", name)).collect::<Result<Vec<_>>>()?;
    // RNN's schema has a default of two, which exporters write out for one direction too.
    if operator == Operator::Rnn && directions == 1 && names == ["Tanh", "Tanh"] {
        names.truncate(1);
    }
    let (mut alphas, mut betas) = (alpha.iter().copied(), beta.iter().copied());
    let functions: Vec<Activation> = if names.is_empty() {
        default.repeat(directions)
    } else {
        names.iter().map(|name| Activation::consume(name, &mut alphas, &mut betas)).collect::<Result<_>>()?
    };
    let expected = default.len() * directions;
    if functions.len() != expected {
        let actual = functions.len();
        return Err(wrong("activations", &format!("names {actual}, expected {expected} for {directions} direction(s)")));
    }
    for (name, given, left) in [("activation_alpha", alpha, alphas.len()), ("activation_beta", beta, betas.len())] {
        if left > 0 {
            let used = given.len() - left;
            return Err(wrong(name, &format!("has {} values, the activations take {used}", given.len())));
        }
    }
    Ok(functions.chunks(default.len()).map(<[_]>::to_vec).collect())
}

fn direction(name: &str) -> Result<Direction> {
    match name {
        "forward" => Ok(Direction::Forward),
        "reverse" => Ok(Direction::Reverse),
        "bidirectional" => Ok(Direction::Bidirectional),
        _ => {
            let known = "forward, reverse, bidirectional".into();
            Err(Error::UnknownName { kind: "direction", name: name.into(), known })
        }
    }
}

fn wrong(attribute: &str, what: &str) -> Error {
    Error::Onnx(format!("attribute `{attribute}` {what}"))
}

/// Refuses an attribute of another type than its name has; its value would be read as 0.
fn typed(attribute: &AttributeProto, expected: i32) -> Result<&AttributeProto> {
    let name = |number: i32| {
        ATTRIBUTE_TYPES.iter().find(|(n, _)| *n == number).map_or(format!("type {number}"), |(_, name)| name.to_string())
    };
    if !attribute.ref_attr_name.is_empty() {
        return Err(wrong(&attribute.name, "refers to an attribute of a function; functions are not read"));
    }
    if attribute.r#type != expected {
        return Err(wrong(&attribute.name, &format!("must be {}, is {}", name(expected), name(attribute.r#type))));
    }
    Ok(attribute)
}

pub(super) fn float(attribute: &AttributeProto) -> Result<f32> {
    Ok(typed(attribute, 1)?.f)
}

pub(super) fn int(attribute: &AttributeProto) -> Result<i64> {
    Ok(typed(attribute, 2)?.i)
}

fn flag(attribute: &AttributeProto) -> Result<bool> {
    match int(attribute)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(wrong(&attribute.name, &format!("is {other}, must be 0 or 1"))),
    }
}

fn string(attribute: &AttributeProto) -> Result<&Bytes> {
    Ok(&typed(attribute, 3)?.s)
}

pub(super) fn floats(attribute: &AttributeProto) -> Result<&[f32]> {
    Ok(&typed(attribute, 6)?.floats)
}

pub(super) fn ints(attribute: &AttributeProto) -> Result<&[i64]> {
    Ok(&typed(attribute, 7)?.ints)
}

/// A tensor that is an attribute.
pub(super) fn tensor(attribute: &AttributeProto) -> Result<&TensorProto> {
    typed(attribute, 4)?.t.as_deref().ok_or_else(|| wrong(&attribute.name, "holds no tensor"))
}

fn strings(attribute: &AttributeProto) -> Result<&[Bytes]> {
    Ok(&typed(attribute, 8)?.strings)
}

fn text<'a>(attribute: &str, bytes: &'a Bytes) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| wrong(attribute, "is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_came_with_opset_14() {
        let attribute = AttributeProto { name: "layout".into(), i: 1, r#type: 2, ..Default::default() };
        let node = NodeProto { op_type: "GRU".into(), attribute: vec![attribute], ..Default::default() };
        assert!(Attributes::read(Operator::Gru, &node, 14).unwrap().layout);
        let error = Attributes::read(Operator::Gru, &node, 7).unwrap_err().to_string();
        assert!(error.contains("layout") && error.contains("14") && error.contains('7'), "{error}");
    }

    #[test]
    fn attributes_are_of_their_type() {
        for r#type in [0, 1, 7, 99] {
            let attribute = AttributeProto { name: "hidden_size".into(), i: 4, r#type, ..Default::default() };
            let node = NodeProto { op_type: "RNN".into(), attribute: vec![attribute], ..Default::default() };
            let error = Attributes::read(Operator::Rnn, &node, 22).unwrap_err().to_string();
            assert!(error.contains("hidden_size") && error.contains("INT"), "{error}");
        }
    }
}
