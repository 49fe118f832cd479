//! [`Rnn`] and [`BiRnn`].

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn;
use burn::nn::activation::{Activation, ActivationConfig};
use burn::nn::{GateController, RnnState};
use burn::tensor::{Device, Int, Tensor};
use tidegate::{Direction, Elman};

use crate::call::Call;
use crate::cell::{Kind, activation};
use crate::error::{Error, Result};
use crate::layers::{expect, first_layer, interleaved, no_clip, of_one_cell, one_layer, one_layer_of_burn};

/// Burn's options of a plain RNN without `clip`, which tidegate's cell does not have, and two of tidegate's: `num_layers` and `dropout`.
#[derive(Config, Debug)]
pub struct RnnConfig {
    /// I: features of one step.
    pub d_input: usize,
    /// H: units of each layer and direction.
    pub d_hidden: usize,
    /// Whether there are the two biases.
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
    /// Of the state.
    #[config(default = "ActivationConfig::Tanh")]
    pub hidden_activation: ActivationConfig,
    /// L: layers stacked on each other.
    #[config(default = 1)]
    pub num_layers: usize,
    /// Probability that an output of a layer other than the last is zeroed before the next, where gradients are tracked.
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Burn's options of a plain RNN that runs both ways, without `clip`, and `num_layers` and `dropout`: each as in [`RnnConfig`].
#[derive(Config, Debug)]
#[expect(missing_docs, reason = "they are RnnConfig's")]
pub struct BiRnnConfig {
    pub d_input: usize,
    pub d_hidden: usize,
    pub bias: bool,
    #[config(default = "Initializer::XavierNormal{gain:1.0}")]
    pub initializer: Initializer,
    #[config(default = true)]
    pub batch_first: bool,
    #[config(default = "ActivationConfig::Tanh")]
    pub hidden_activation: ActivationConfig,
    #[config(default = 1)]
    pub num_layers: usize,
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Burn's `nn::Rnn`, run by tidegate. A record of the one loads into the other where there is one layer.
#[derive(Module, Debug)]
pub struct Rnn {
    /// The first layer's.
    pub gate: GateController,
    /// The layers above the first.
    pub upper: Vec<GateController>,
    /// H
    pub d_hidden: usize,
    /// `[B, T, I]`, or `[T, B, I]`.
    pub batch_first: bool,
    /// From the last step to the first.
    pub reverse: bool,
    /// Of the state.
    pub hidden_activation: Activation,
    /// Between layers.
    pub dropout: f64,
}

/// Burn's `nn::BiRnn`, run by tidegate.
#[derive(Module, Debug)]
pub struct BiRnn {
    /// From the first step to the last.
    pub forward: Rnn,
    /// From the last step to the first.
    pub reverse: Rnn,
    /// H
    pub d_hidden: usize,
    /// `[B, T, I]`, or `[T, B, I]`.
    pub batch_first: bool,
}

impl RnnConfig {
    /// The module, with fresh weights.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](RnnConfig::try_init) gives an error.
    pub fn init(&self, device: &Device) -> Rnn {
        expect(self.try_init(device))
    }

    /// The module, with fresh weights.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for an activation that tidegate does not have, and tidegate's for options that mean nothing.
    pub fn try_init(&self, device: &Device) -> Result<Rnn> {
        self.direction(self.d_hidden, device)
    }

    /// One direction, whose upper layers read `below` features.
    fn direction(&self, below: usize, device: &Device) -> Result<Rnn> {
        let gate = |features| GateController::new(features, self.d_hidden, self.bias, self.initializer.clone(), device);
        let rnn = Rnn {
            gate: gate(self.d_input),
            upper: (1..self.num_layers).map(|_| gate(below)).collect(),
            d_hidden: self.d_hidden,
            batch_first: self.batch_first,
            reverse: self.reverse,
            hidden_activation: self.hidden_activation.init(device),
            dropout: self.dropout,
        };
        rnn.kind()?.validate()?;
        Ok(rnn)
    }
}

impl BiRnnConfig {
    /// The module, with fresh weights.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](BiRnnConfig::try_init) gives an error.
    pub fn init(&self, device: &Device) -> BiRnn {
        expect(self.try_init(device))
    }

    /// The module, with fresh weights.
    ///
    /// # Errors
    ///
    /// As [`RnnConfig::try_init`].
    pub fn try_init(&self, device: &Device) -> Result<BiRnn> {
        let config = RnnConfig {
            d_input: self.d_input,
            d_hidden: self.d_hidden,
            bias: self.bias,
            initializer: self.initializer.clone(),
            batch_first: self.batch_first,
            reverse: false,
            hidden_activation: self.hidden_activation.clone(),
            num_layers: self.num_layers,
            dropout: self.dropout,
        };
        let direction = || config.direction(2 * self.d_hidden, device);
        Ok(BiRnn { forward: direction()?, reverse: direction()?, d_hidden: self.d_hidden, batch_first: self.batch_first })
    }
}

impl Rnn {
    fn kind(&self) -> Result<Kind> {
        Ok(Kind::Rnn(Elman::new(activation(&self.hidden_activation)?)))
    }

    fn layers(&self) -> Vec<Vec<&GateController>> {
        std::iter::once(&self.gate).chain(&self.upper).map(|gate| vec![gate]).collect()
    }

    /// As Burn's: `input` `[B, T, I]` (or `[T, B, I]`) and state `[B, H]`, zeros if absent; gives `[B, T, H]` and the last state.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](Rnn::try_forward) gives an error, and with more than one layer, whose states have one dimension more.
    pub fn forward(&self, input: Tensor<3>, state: Option<RnnState<2>>) -> (Tensor<3>, RnnState<2>) {
        one_layer(1 + self.upper.len());
        let state = state.map(|state| RnnState::new(state.hidden.unsqueeze_dim(0)));
        let (output, state) = expect(self.try_forward(input, state, None));
        (output, RnnState::new(first_layer(state.hidden)))
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
        state: Option<RnnState<3>>,
        lengths: Option<Tensor<1, Int>>,
    ) -> Result<(Tensor<3>, RnnState<3>)> {
        let direction = if self.reverse { Direction::Reverse } else { Direction::Forward };
        run(self, self.batch_first, direction, self.layers(), input, state, lengths)
    }
}

impl BiRnn {
    /// As Burn's: state `[2, B, H]`, with layers `[2·L, B, H]`, forward first in each layer; gives `[B, T, 2·H]`.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](BiRnn::try_forward) gives an error.
    pub fn forward(&self, input: Tensor<3>, state: Option<RnnState<3>>) -> (Tensor<3>, RnnState<3>) {
        expect(self.try_forward(input, state, None))
    }

    /// [`Rnn::try_forward`] in both directions: states `[2·L, B, H]`; gives `[B, T, 2·H]`. With lengths the reverse direction starts at
    /// each row's last step.
    ///
    /// # Errors
    ///
    /// As [`Rnn::try_forward`].
    pub fn try_forward(
        &self,
        input: Tensor<3>,
        state: Option<RnnState<3>>,
        lengths: Option<Tensor<1, Int>>,
    ) -> Result<(Tensor<3>, RnnState<3>)> {
        let layers = interleaved(self.forward.layers(), self.reverse.layers());
        run(&self.forward, self.batch_first, Direction::Bidirectional, layers, input, state, lengths)
    }
}

/// `rnn` has the options.
fn run(
    rnn: &Rnn,
    batch_first: bool,
    direction: Direction,
    layers: Vec<Vec<&GateController>>,
    input: Tensor<3>,
    state: Option<RnnState<3>>,
    lengths: Option<Tensor<1, Int>>,
) -> Result<(Tensor<3>, RnnState<3>)> {
    let states = state.map(|state| state.hidden).into_iter().collect();
    let call = Call { kind: rnn.kind()?, input, batch_first, direction, layers, states, lengths, dropout: rnn.dropout };
    let outputs = call.run()?;
    let [hidden] = outputs.states.try_into().expect("a plain RNN has one state");
    Ok((outputs.output, RnnState::new(hidden)))
}

impl TryFrom<nn::Rnn> for Rnn {
    type Error = Error;

    /// The same weights. Refuses `clip` and activations that tidegate does not have.
    fn try_from(burn: nn::Rnn) -> Result<Self> {
        no_clip("RNN", burn.clip)?;
        let rnn = Self {
            gate: burn.gate,
            upper: Vec::new(),
            d_hidden: burn.d_hidden,
            batch_first: burn.batch_first,
            reverse: burn.reverse,
            hidden_activation: burn.hidden_activation,
            dropout: 0.0,
        };
        rnn.kind()?.validate()?;
        Ok(rnn)
    }
}

impl TryFrom<Rnn> for nn::Rnn {
    type Error = Error;

    /// The same weights. Refuses more than one layer.
    fn try_from(rnn: Rnn) -> Result<Self> {
        one_layer_of_burn(1 + rnn.upper.len())?;
        Ok(Self {
            gate: rnn.gate,
            d_hidden: rnn.d_hidden,
            batch_first: rnn.batch_first,
            reverse: rnn.reverse,
            clip: None,
            hidden_activation: rnn.hidden_activation,
        })
    }
}

impl TryFrom<nn::BiRnn> for BiRnn {
    type Error = Error;

    /// The same weights. Refuses `clip` and activations that tidegate does not have.
    fn try_from(burn: nn::BiRnn) -> Result<Self> {
        let (forward, reverse) = of_one_cell(burn.forward, burn.reverse, Rnn::kind)?;
        Ok(Self { forward, reverse, d_hidden: burn.d_hidden, batch_first: burn.batch_first })
    }
}

impl TryFrom<BiRnn> for nn::BiRnn {
    type Error = Error;

    /// The same weights. Refuses more than one layer.
    fn try_from(rnn: BiRnn) -> Result<Self> {
        let batch_first = rnn.batch_first;
        // Burn's own two are batch-first whatever the whole is.
        let inner = |rnn: Rnn| nn::Rnn::try_from(Rnn { batch_first: true, ..rnn });
        Ok(Self { forward: inner(rnn.forward)?, reverse: inner(rnn.reverse)?, d_hidden: rnn.d_hidden, batch_first })
    }
}
