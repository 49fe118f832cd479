//! [`Gru`] and [`BiGru`].

use burn::config::Config;
use burn::module::{Initializer, Module};
use burn::nn;
use burn::nn::GateController;
use burn::nn::activation::{Activation, ActivationConfig};
use burn::tensor::{Device, Int, Tensor};
use tidegate::{Direction, GruReset};

use crate::call::Call;
use crate::cell::{Kind, activation};
use crate::error::{Error, Result};
use crate::layers::{expect, interleaved, no_clip, of_one_cell, one_layer, one_layer_of_burn};

/// Burn's options of a GRU without `clip`, which tidegate's cell does not have, and two of tidegate's: `num_layers` and `dropout`.
#[derive(Config, Debug)]
pub struct GruConfig {
    /// I: features of one step.
    pub d_input: usize,
    /// H: units of each layer and direction.
    pub d_hidden: usize,
    /// Whether every gate has its two biases.
    pub bias: bool,
    /// Whether r multiplies R·h (as in PyTorch) or h itself.
    #[config(default = "true")]
    pub reset_after: bool,
    /// How the weights start.
    #[config(default = "Initializer::XavierNormal{gain:1.0}")]
    pub initializer: Initializer,
    /// Of the gates r and z.
    #[config(default = "ActivationConfig::Sigmoid")]
    pub gate_activation: ActivationConfig,
    /// Of the candidate n.
    #[config(default = "ActivationConfig::Tanh")]
    pub hidden_activation: ActivationConfig,
    /// L: layers stacked on each other.
    #[config(default = 1)]
    pub num_layers: usize,
    /// Probability that an output of a layer other than the last is zeroed before the next, where gradients are tracked.
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// Burn's options of a GRU that runs both ways, without `clip`, and `num_layers` and `dropout`: each as in [`GruConfig`].
#[derive(Config, Debug)]
#[expect(missing_docs, reason = "they are GruConfig's")]
pub struct BiGruConfig {
    pub d_input: usize,
    pub d_hidden: usize,
    pub bias: bool,
    #[config(default = "true")]
    pub reset_after: bool,
    #[config(default = "Initializer::XavierNormal{gain:1.0}")]
    pub initializer: Initializer,
    /// `[B, T, I]`, or `[T, B, I]`.
    #[config(default = true)]
    pub batch_first: bool,
    #[config(default = "ActivationConfig::Sigmoid")]
    pub gate_activation: ActivationConfig,
    #[config(default = "ActivationConfig::Tanh")]
    pub hidden_activation: ActivationConfig,
    #[config(default = 1)]
    pub num_layers: usize,
    #[config(default = 0.0)]
    pub dropout: f64,
}

/// The gates of one layer and direction.
#[derive(Module, Debug)]
pub struct GruGates {
    /// z
    pub update_gate: GateController,
    /// r
    pub reset_gate: GateController,
    /// n
    pub new_gate: GateController,
}

/// Burn's `nn::Gru`, run by tidegate. A record of the one loads into the other where there is one layer.
#[derive(Module, Debug)]
pub struct Gru {
    /// z of the first layer.
    pub update_gate: GateController,
    /// r
    pub reset_gate: GateController,
    /// n
    pub new_gate: GateController,
    /// The layers above the first.
    pub upper: Vec<GruGates>,
    /// H
    pub d_hidden: usize,
    /// Whether r multiplies R·h or h itself.
    pub reset_after: bool,
    /// Of the gates r and z.
    pub gate_activation: Activation,
    /// Of the candidate n.
    pub hidden_activation: Activation,
    /// Between layers.
    pub dropout: f64,
}

/// Burn's `nn::BiGru`, run by tidegate.
#[derive(Module, Debug)]
pub struct BiGru {
    /// From the first step to the last.
    pub forward: Gru,
    /// From the last step to the first.
    pub reverse: Gru,
    /// H
    pub d_hidden: usize,
    /// `[B, T, I]`, or `[T, B, I]`.
    pub batch_first: bool,
}

impl GruConfig {
    /// The module, with fresh weights.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](GruConfig::try_init) gives an error.
    pub fn init(&self, device: &Device) -> Gru {
        expect(self.try_init(device))
    }

    /// The module, with fresh weights.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for an activation that tidegate does not have, and tidegate's for options that mean nothing.
    pub fn try_init(&self, device: &Device) -> Result<Gru> {
        self.direction(self.d_hidden, device)
    }

    /// One direction, whose upper layers read `below` features.
    fn direction(&self, below: usize, device: &Device) -> Result<Gru> {
        let gates = |features| {
            let gate = || GateController::new(features, self.d_hidden, self.bias, self.initializer.clone(), device);
            GruGates { update_gate: gate(), reset_gate: gate(), new_gate: gate() }
        };
        let GruGates { update_gate, reset_gate, new_gate } = gates(self.d_input);
        let gru = Gru {
            update_gate,
            reset_gate,
            new_gate,
            upper: (1..self.num_layers).map(|_| gates(below)).collect(),
            d_hidden: self.d_hidden,
            reset_after: self.reset_after,
            gate_activation: self.gate_activation.init(device),
            hidden_activation: self.hidden_activation.init(device),
            dropout: self.dropout,
        };
        gru.kind()?.validate()?;
        Ok(gru)
    }
}

impl BiGruConfig {
    /// The module, with fresh weights.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](BiGruConfig::try_init) gives an error.
    pub fn init(&self, device: &Device) -> BiGru {
        expect(self.try_init(device))
    }

    /// The module, with fresh weights.
    ///
    /// # Errors
    ///
    /// As [`GruConfig::try_init`].
    pub fn try_init(&self, device: &Device) -> Result<BiGru> {
        let config = GruConfig {
            d_input: self.d_input,
            d_hidden: self.d_hidden,
            bias: self.bias,
            reset_after: self.reset_after,
            initializer: self.initializer.clone(),
            gate_activation: self.gate_activation.clone(),
            hidden_activation: self.hidden_activation.clone(),
            num_layers: self.num_layers,
            dropout: self.dropout,
        };
        let direction = || config.direction(2 * self.d_hidden, device);
        Ok(BiGru { forward: direction()?, reverse: direction()?, d_hidden: self.d_hidden, batch_first: self.batch_first })
    }
}

impl GruGates {
    /// As tidegate has them.
    fn in_order(&self) -> Vec<&GateController> {
        vec![&self.reset_gate, &self.update_gate, &self.new_gate]
    }
}

impl Gru {
    fn kind(&self) -> Result<Kind> {
        let reset = if self.reset_after { GruReset::After } else { GruReset::Before };
        let gru = tidegate::Gru { reset, ..tidegate::Gru::default() };
        Ok(Kind::Gru(gru.with_activations(activation(&self.gate_activation)?, activation(&self.hidden_activation)?)))
    }

    fn layers(&self) -> Vec<Vec<&GateController>> {
        let first = vec![&self.reset_gate, &self.update_gate, &self.new_gate];
        std::iter::once(first).chain(self.upper.iter().map(GruGates::in_order)).collect()
    }

    /// As Burn's: `input` `[B, T, I]` and `state` `[B, H]`, zeros if absent; gives `[B, T, H]`.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](Gru::try_forward) gives an error, and with more than one layer, whose states have one dimension more.
    pub fn forward(&self, input: Tensor<3>, state: Option<Tensor<2>>) -> Tensor<3> {
        one_layer(1 + self.upper.len());
        expect(self.try_forward(input, state.map(|state| state.unsqueeze_dim(0)), None)).0
    }

    /// `input` `[B, T, I]`, `state` `[L, B, H]`, `lengths` `[B]`, each 1 to T: gives `[B, T, H]`, 0 past a row's length, and the states
    /// `[L, B, H]` at each row's last step. `lengths` stay on the GPU and are not checked; larger ones count as T.
    ///
    /// # Errors
    ///
    /// Shapes, types and devices that do not go together, a device that [`register`](crate::register) was not told of, and what is too
    /// much for the device.
    pub fn try_forward(
        &self,
        input: Tensor<3>,
        state: Option<Tensor<3>>,
        lengths: Option<Tensor<1, Int>>,
    ) -> Result<(Tensor<3>, Tensor<3>)> {
        run(self, true, Direction::Forward, self.layers(), input, state, lengths)
    }
}

impl BiGru {
    /// As Burn's: `state` `[2, B, H]`, with layers `[2·L, B, H]`, forward first in each layer; gives `[B, T, 2·H]` and the last states.
    ///
    /// # Panics
    ///
    /// Where [`try_forward`](BiGru::try_forward) gives an error.
    pub fn forward(&self, input: Tensor<3>, state: Option<Tensor<3>>) -> (Tensor<3>, Tensor<3>) {
        expect(self.try_forward(input, state, None))
    }

    /// [`Gru::try_forward`] in both directions: states `[2·L, B, H]`; gives `[B, T, 2·H]`. With lengths the reverse direction starts at
    /// each row's last step.
    ///
    /// # Errors
    ///
    /// As [`Gru::try_forward`].
    pub fn try_forward(
        &self,
        input: Tensor<3>,
        state: Option<Tensor<3>>,
        lengths: Option<Tensor<1, Int>>,
    ) -> Result<(Tensor<3>, Tensor<3>)> {
        let layers = interleaved(self.forward.layers(), self.reverse.layers());
        run(&self.forward, self.batch_first, Direction::Bidirectional, layers, input, state, lengths)
    }
}

/// `gru` has the options.
fn run(
    gru: &Gru,
    batch_first: bool,
    direction: Direction,
    layers: Vec<Vec<&GateController>>,
    input: Tensor<3>,
    state: Option<Tensor<3>>,
    lengths: Option<Tensor<1, Int>>,
) -> Result<(Tensor<3>, Tensor<3>)> {
    let states = state.into_iter().collect();
    let call = Call { kind: gru.kind()?, input, batch_first, direction, layers, states, lengths, dropout: gru.dropout };
    let outputs = call.run()?;
    let [hidden] = outputs.states.try_into().expect("a GRU has one state");
    Ok((outputs.output, hidden))
}

impl TryFrom<nn::Gru> for Gru {
    type Error = Error;

    /// The same weights. Refuses `clip` and activations that tidegate does not have.
    fn try_from(burn: nn::Gru) -> Result<Self> {
        no_clip("GRU", burn.clip)?;
        let gru = Self {
            update_gate: burn.update_gate,
            reset_gate: burn.reset_gate,
            new_gate: burn.new_gate,
            upper: Vec::new(),
            d_hidden: burn.d_hidden,
            reset_after: burn.reset_after,
            gate_activation: burn.gate_activation,
            hidden_activation: burn.hidden_activation,
            dropout: 0.0,
        };
        gru.kind()?.validate()?;
        Ok(gru)
    }
}

impl TryFrom<Gru> for nn::Gru {
    type Error = Error;

    /// The same weights. Refuses more than one layer.
    fn try_from(gru: Gru) -> Result<Self> {
        one_layer_of_burn(1 + gru.upper.len())?;
        Ok(Self {
            update_gate: gru.update_gate,
            reset_gate: gru.reset_gate,
            new_gate: gru.new_gate,
            d_hidden: gru.d_hidden,
            reset_after: gru.reset_after,
            gate_activation: gru.gate_activation,
            hidden_activation: gru.hidden_activation,
            clip: None,
        })
    }
}

impl TryFrom<nn::BiGru> for BiGru {
    type Error = Error;

    /// The same weights. Refuses `clip` and activations that tidegate does not have.
    fn try_from(burn: nn::BiGru) -> Result<Self> {
        let (forward, reverse) = of_one_cell(burn.forward, burn.reverse, Gru::kind)?;
        Ok(Self { forward, reverse, d_hidden: burn.d_hidden, batch_first: burn.batch_first })
    }
}

impl TryFrom<BiGru> for nn::BiGru {
    type Error = Error;

    /// The same weights. Refuses more than one layer.
    fn try_from(gru: BiGru) -> Result<Self> {
        let (forward, reverse) = (gru.forward.try_into()?, gru.reverse.try_into()?);
        Ok(Self { forward, reverse, d_hidden: gru.d_hidden, batch_first: gru.batch_first })
    }
}
