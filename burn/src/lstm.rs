//! [`Lstm`] and [`BiLstm`].

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn;
use burn::nn::activation::{Activation, ActivationConfig};
use burn::nn::{GateController, LstmState};
use burn::tensor::{Device, Int, Tensor};
use tidegate::Direction;

use crate::call::Call;
use crate::cell::{Kind, activation};
use crate::error::{Error, Result};
use crate::layers::{expect, first_layer, interleaved, of_one_cell, one_layer, one_layer_of_burn};

/// Burn's options of an LSTM, and two of tidegate's: `num_layers` and `dropout`.
#[derive(Config, Debug)]
pub struct LstmConfig {
    /// I: features of one step.
    pub d_input: usize,
    /// H: units of each layer and direction.
    pub d_hidden: usize,
    /// Whether every gate has its two biases.
    pub bias: bool,
    /// How the weights start.
    #[config(default = "Initializer::XavierNormal{gain:1.0}")]
    pub initializer: Initializer,
    /// `[B, T, I]`, or `[T, B, I]`.
    #[config(default = true)]
    pub batch_first: bool,
    /// From the last step to the first.
    #[config(default = false)]
    pub reverse: bool,
    /// Bound on the cell state.
    pub clip: Option<f64>,
    /// Coupled gates: f = 1 − i, and no weights for f.
    #[config(default = false)]
    pub input_forget: bool,
    /// Of the gates i, f and o.
    #[config(default = "ActivationConfig::Sigmoid")]
    pub gate_activation: ActivationConfig,
    /// Of the candidate g.
    #[config(default = "ActivationConfig::Tanh")]
    pub cell_activation: ActivationConfig,
    /// Of the cell state on its way to h.
    #[config(default = "ActivationConfig::Tanh")]
    pub hidden_activation: ActivationConfig,
    /// L: layers stacked on each other.
    #[config(default = 1)]
    pub num_layers: usize,
    /// Probability that an output of a layer other than the last is zeroed before the next, where gradients are tracked.
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Burn's options of an LSTM that runs both ways, and `num_layers` and `dropout`: each as in [`LstmConfig`].
#[derive(Config, Debug)]
#[expect(missing_docs, reason = "they are LstmConfig's")]
pub struct BiLstmConfig {
    pub d_input: usize,
    pub d_hidden: usize,
    pub bias: bool,
    #[config(default = "Initializer::XavierNormal{gain:1.0}")]
    pub initializer: Initializer,
    #[config(default = true)]
    pub batch_first: bool,
    pub clip: Option<f64>,
    #[config(default = false)]
    pub input_forget: bool,
    #[config(default = "ActivationConfig::Sigmoid")]
    pub gate_activation: ActivationConfig,
    #[config(default = "ActivationConfig::Tanh")]
    pub cell_activation: ActivationConfig,
    #[config(default = "ActivationConfig::Tanh")]
    pub hidden_activation: ActivationConfig,
    #[config(default = 1)]
    pub num_layers: usize,
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// The gates of one layer and direction.
#[derive(Module, Debug)]
pub struct LstmGates {
    /// i
    pub input_gate: GateController,
    /// f, absent if it is coupled to i.
    pub forget_gate: Option<GateController>,
    /// o
    pub output_gate: GateController,
    /// g
    pub cell_gate: GateController,
}

/// Burn's `nn::Lstm`, run by tidegate. A record of the one loads into the other where there is one layer.
#[derive(Module, Debug)]
pub struct Lstm {
    /// i of the first layer.
    pub input_gate: GateController,
    /// f, absent if it is coupled to i.
    pub forget_gate: Option<GateController>,
    /// o
    pub output_gate: GateController,
    /// g
    pub cell_gate: GateController,
    /// The layers above the first.
    pub upper: Vec<LstmGates>,
    /// H
    pub d_hidden: usize,
    /// `[B, T, I]`, or `[T, B, I]`.
    pub batch_first: bool,
    /// From the last step to the first.
    pub reverse: bool,
    /// Bound on the cell state.
    pub clip: Option<f64>,
    /// Whether f is 1 − i.
    pub input_forget: bool,
    /// Of the gates i, f and o.
    pub gate_activation: Activation,
    /// Of the candidate g.
    pub cell_activation: Activation,
    /// Of the cell state on its way to h.
    pub hidden_activation: Activation,
    /// Between layers.
    pub dropout: f64,
}

/// Burn's `nn::BiLstm`, run by tidegate.
#[derive(Module, Debug)]
pub struct BiLstm {
    /// From the first step to the last.
    pub forward: Lstm,
    /// From the last step to the first.
    pub reverse: Lstm,
    /// H
    pub d_hidden: usize,
    /// `[B, T, I]`, or `[T, B, I]`.
    pub batch_first: bool,
}

impl LstmConfig {
    /// The module, with fresh weights.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](LstmConfig::try_init) gives an error.
    pub fn init(&self, device: &Device) -> Lstm {
        expect(self.try_init(device))
    }

    /// The module, with fresh weights.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for an activation that tidegate does not have, and tidegate's for options that mean nothing.
    pub fn try_init(&self, device: &Device) -> Result<Lstm> {
        self.direction(self.d_hidden, device)
    }

    /// One direction, whose upper layers read `below` features.
    fn direction(&self, below: usize, device: &Device) -> Result<Lstm> {
        let gates = |features| {
            let gate = || GateController::new(features, self.d_hidden, self.bias, self.initializer.clone(), device);
            LstmGates { input_gate: gate(), forget_gate: (!self.input_forget).then(gate), output_gate: gate(), cell_gate: gate() }
        };
        let LstmGates { input_gate, forget_gate, output_gate, cell_gate } = gates(self.d_input);
        let lstm = Lstm {
            input_gate,
            forget_gate,
            output_gate,
            cell_gate,
            upper: (1..self.num_layers).map(|_| gates(below)).collect(),
            d_hidden: self.d_hidden,
            batch_first: self.batch_first,
            reverse: self.reverse,
            clip: self.clip,
            input_forget: self.input_forget,
            gate_activation: self.gate_activation.init(device),
            cell_activation: self.cell_activation.init(device),
            hidden_activation: self.hidden_activation.init(device),
            dropout: self.dropout,
        };
        lstm.kind()?.validate()?;
        Ok(lstm)
    }
}

impl BiLstmConfig {
    /// The module, with fresh weights.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](BiLstmConfig::try_init) gives an error.
    pub fn init(&self, device: &Device) -> BiLstm {
        expect(self.try_init(device))
    }

    /// The module, with fresh weights.
    ///
    /// # Errors
    ///
    /// As [`LstmConfig::try_init`].
    pub fn try_init(&self, device: &Device) -> Result<BiLstm> {
        let config = LstmConfig {
            d_input: self.d_input,
            d_hidden: self.d_hidden,
            bias: self.bias,
            initializer: self.initializer.clone(),
            batch_first: self.batch_first,
            reverse: false,
            clip: self.clip,
            input_forget: self.input_forget,
            gate_activation: self.gate_activation.clone(),
            cell_activation: self.cell_activation.clone(),
            hidden_activation: self.hidden_activation.clone(),
            num_layers: self.num_layers,
            dropout: self.dropout,
        };
        let direction = || config.direction(2 * self.d_hidden, device);
        Ok(BiLstm { forward: direction()?, reverse: direction()?, d_hidden: self.d_hidden, batch_first: self.batch_first })
    }
}

impl LstmGates {
    fn in_order(&self) -> Vec<&GateController> {
        in_order(&self.input_gate, self.forget_gate.as_ref(), &self.cell_gate, &self.output_gate)
    }
}

/// As tidegate has them.
fn in_order<'a>(
    i: &'a GateController,
    f: Option<&'a GateController>,
    g: &'a GateController,
    o: &'a GateController,
) -> Vec<&'a GateController> {
    [Some(i), f, Some(g), Some(o)].into_iter().flatten().collect()
}

impl Lstm {
    fn kind(&self) -> Result<Kind> {
        let (gate, cell, hidden) =
            (activation(&self.gate_activation)?, activation(&self.cell_activation)?, activation(&self.hidden_activation)?);
        let lstm = tidegate::Lstm::default().with_activations(gate, cell, hidden).with_input_forget(self.input_forget);
        if self.input_forget == self.forget_gate.is_some() {
            let gate = if self.input_forget { "a forget gate of its own" } else { "no forget gate" };
            return Err(Error::Unsupported(format!("`input_forget` is {}, but there is {gate}", self.input_forget)));
        }
        Ok(Kind::Lstm(match self.clip {
            Some(clip) => lstm.with_cell_clip(clip as f32),
            None => lstm,
        }))
    }

    fn layers(&self) -> Vec<Vec<&GateController>> {
        let first = in_order(&self.input_gate, self.forget_gate.as_ref(), &self.cell_gate, &self.output_gate);
        std::iter::once(first).chain(self.upper.iter().map(LstmGates::in_order)).collect()
    }

    /// As Burn's: `input` `[B, T, I]` (or `[T, B, I]`) and states `[B, H]`, zeros if absent; gives `[B, T, H]` and the last states.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](Lstm::try_forward) gives an error, and with more than one layer, whose states have one dimension more.
    pub fn forward(&self, input: Tensor<3>, state: Option<LstmState<2>>) -> (Tensor<3>, LstmState<2>) {
        one_layer(1 + self.upper.len());
        let state = state.map(|state| LstmState::new(state.cell.unsqueeze_dim(0), state.hidden.unsqueeze_dim(0)));
        let (output, state) = expect(self.try_forward(input, state, None));
        (output, LstmState::new(first_layer(state.cell), first_layer(state.hidden)))
    }

    /// `input` `[B, T, I]` (or `[T, B, I]`), `state` `[L, B, H]`, `lengths` `[B]`, each 1 to T: gives `[B, T, H]`, 0 past a row's length,
    /// and the states `[L, B, H]` at each row's last step. `lengths` stay on the GPU and are not checked; larger ones count as T.
    ///
    /// # Errors
    ///
    /// Shapes, types and devices that do not go together, a device that [`register`](crate::register) was not told of, and what is too
    /// much for the device.
    pub fn try_forward(
        &self,
        input: Tensor<3>,
        state: Option<LstmState<3>>,
        lengths: Option<Tensor<1, Int>>,
    ) -> Result<(Tensor<3>, LstmState<3>)> {
        let direction = if self.reverse { Direction::Reverse } else { Direction::Forward };
        run(self, self.batch_first, direction, self.layers(), input, state, lengths)
    }
}

impl BiLstm {
    /// As Burn's: states `[2, B, H]`, with layers `[2·L, B, H]`, forward first in each layer; gives `[B, T, 2·H]`.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](BiLstm::try_forward) gives an error.
    pub fn forward(&self, input: Tensor<3>, state: Option<LstmState<3>>) -> (Tensor<3>, LstmState<3>) {
        expect(self.try_forward(input, state, None))
    }

    /// [`Lstm::try_forward`] in both directions: states `[2·L, B, H]`; gives `[B, T, 2·H]`. With lengths the reverse direction starts at
    /// each row's last step.
    ///
    /// # Errors
    ///
    /// As [`Lstm::try_forward`].
    pub fn try_forward(
        &self,
        input: Tensor<3>,
        state: Option<LstmState<3>>,
        lengths: Option<Tensor<1, Int>>,
    ) -> Result<(Tensor<3>, LstmState<3>)> {
        let layers = interleaved(self.forward.layers(), self.reverse.layers());
        run(&self.forward, self.batch_first, Direction::Bidirectional, layers, input, state, lengths)
    }
}

/// `lstm` has the options.
fn run(
    lstm: &Lstm,
    batch_first: bool,
    direction: Direction,
    layers: Vec<Vec<&GateController>>,
    input: Tensor<3>,
    state: Option<LstmState<3>>,
    lengths: Option<Tensor<1, Int>>,
) -> Result<(Tensor<3>, LstmState<3>)> {
    let states = state.map(|state| vec![state.hidden, state.cell]).unwrap_or_default();
    let call = Call { kind: lstm.kind()?, input, batch_first, direction, layers, states, lengths, dropout: lstm.dropout };
    let outputs = call.run()?;
    let [hidden, cell] = outputs.states.try_into().expect("an LSTM has two states");
    Ok((outputs.output, LstmState::new(cell, hidden)))
}

impl TryFrom<nn::Lstm> for Lstm {
    type Error = Error;

    /// The same weights. Refuses activations that tidegate does not have.
    fn try_from(burn: nn::Lstm) -> Result<Self> {
        let lstm = Self {
            input_gate: burn.input_gate,
            forget_gate: burn.forget_gate,
            output_gate: burn.output_gate,
            cell_gate: burn.cell_gate,
            upper: Vec::new(),
            d_hidden: burn.d_hidden,
            batch_first: burn.batch_first,
            reverse: burn.reverse,
            clip: burn.clip,
            input_forget: burn.input_forget,
            gate_activation: burn.gate_activation,
            cell_activation: burn.cell_activation,
            hidden_activation: burn.hidden_activation,
            dropout: 0.0,
        };
        lstm.kind()?.validate()?;
        Ok(lstm)
    }
}

impl TryFrom<Lstm> for nn::Lstm {
    type Error = Error;

    /// The same weights. Refuses more than one layer.
    fn try_from(lstm: Lstm) -> Result<Self> {
        one_layer_of_burn(1 + lstm.upper.len())?;
        Ok(Self {
            input_gate: lstm.input_gate,
            forget_gate: lstm.forget_gate,
            output_gate: lstm.output_gate,
            cell_gate: lstm.cell_gate,
            d_hidden: lstm.d_hidden,
            batch_first: lstm.batch_first,
            reverse: lstm.reverse,
            clip: lstm.clip,
            input_forget: lstm.input_forget,
            gate_activation: lstm.gate_activation,
            cell_activation: lstm.cell_activation,
            hidden_activation: lstm.hidden_activation,
        })
    }
}

impl TryFrom<nn::BiLstm> for BiLstm {
    type Error = Error;

    /// The same weights. Refuses activations that tidegate does not have.
    fn try_from(burn: nn::BiLstm) -> Result<Self> {
        let (forward, reverse) = of_one_cell(burn.forward, burn.reverse, Lstm::kind)?;
        Ok(Self { forward, reverse, d_hidden: burn.d_hidden, batch_first: burn.batch_first })
    }
}

impl TryFrom<BiLstm> for nn::BiLstm {
    type Error = Error;

    /// The same weights. Refuses more than one layer.
    fn try_from(lstm: BiLstm) -> Result<Self> {
        let batch_first = lstm.batch_first;
        // Burn's own two are batch-first whatever the whole is.
        let inner = |lstm: Lstm| nn::Lstm::try_from(Lstm { batch_first: true, ..lstm });
        Ok(Self { forward: inner(lstm.forward)?, reverse: inner(lstm.reverse)?, d_hidden: lstm.d_hidden, batch_first })
    }
}
