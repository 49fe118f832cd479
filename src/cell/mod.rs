//! The [`Cell`] trait: gate math of one hidden unit at one time step, on the CPU and in WGSL.
//!
//! The driver (reference or GPU kernels) owns loops, indices and matrix products; a cell owns scalars.
//! For unit j of gate g the driver computes `wx[g] = W_ih·x + b_ih` and `rh[g] = W_hh·h + b_hh`.

pub(crate) mod activation;
mod binary_gate;
mod elman;
mod gru;
mod lstm;
pub(crate) mod nonlinearity;
mod shader;
mod spec;

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

pub use activation::{Activation, wgsl_f32};
pub use binary_gate::BinaryGate;
pub use elman::Elman;
pub use gru::{Gru, GruReset};
pub use lstm::Lstm;
pub use nonlinearity::Nonlinearity;
pub(crate) use shader::ShaderCell;
pub use spec::{CellSpec, GateSpec, Meaning, StateSpec, UnitParam};

use crate::error::{Error, Result};

/// Gate math of one recurrent cell. All suites, strategies and commands take any `Cell`.
///
/// The WGSL must define, over the generated aliases `Gates`, `State`, `Saved`, `Unit` (arrays of f32) and structs:
/// ```wgsl
/// fn cell_forward(wx: Gates, rh: Gates, prev: State, unit: Unit) -> Forward   // Forward(next: State, saved: Saved)
/// fn cell_backward(saved: Saved, prev: State, next: State, unit: Unit, d_next: State, d_mid: f32) -> Backward
///                                                // Backward(d_wx: Gates, d_rh: Gates, d_prev: State, d_unit: Unit)
/// ```
/// and a cell of two phases also `cell_mid(wx, rh, prev, unit) -> f32` and `cell_mid_saved(saved, prev) -> f32`.
/// In scope are `sigmoid`, `tanh_sat` (the built-in `tanh` may give NaN for large inputs and is inexact near 0), `relu`,
/// `softsign`, `softplus` and their derivatives in terms of the output, `d_sigmoid(y)`, `d_tanh(y)` and so on, of
/// `shaders/shared/activations.wgsl`, and what [`Nonlinearity::wgsl`](crate::Nonlinearity::wgsl) generates for a gate with options; constants are
/// written with [`wgsl_f32`]. Arrays that would be empty have one unused element: `Unit()` is zeros. Lines in a
/// compiler's message count from the start of the joined source, which [`shader_sources`](crate::check::shader_sources) shows.
pub trait Cell: Debug + Send + Sync {
    /// The name that the command and the labels use.
    fn name(&self) -> &str;

    /// Gates, states, counts and what they mean: the same every time.
    fn spec(&self) -> CellSpec;

    /// Refuses options that mean nothing; called before anything is built. By default nothing is refused.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// The cell's WGSL, options baked in as constants.
    fn wgsl(&self) -> Cow<'_, str>;

    /// Vouches that [`wgsl`](Cell::wgsl) never indexes out of bounds, so that it may run unchecked. Nobody outside this crate
    /// can name the token, so nobody else can say so: WGSL of others runs with wgpu's runtime checks on.
    #[doc(hidden)]
    fn trusted(&self, _: sealed::Token) -> bool {
        false
    }

    /// One step of one unit.
    fn forward(&self, step: ForwardStep<'_>);

    /// A smooth stand-in for [`forward`](Cell::forward) whose true derivative is [`backward`](Cell::backward), for finite
    /// differences. `frozen` is what the unperturbed forward saved. Only cells with a made-up gradient need it; by default it is
    /// [`forward`](Cell::forward).
    fn surrogate(&self, step: ForwardStep<'_>, frozen: &[f64]) {
        let _ = frozen;
        self.forward(step);
    }

    /// How far a step stayed from the nearest jump of the cell's function, from what forward saved. Tests keep data away from
    /// jumps, where f32 and f64 may take different sides. By default infinity: the function has none.
    fn margin(&self, saved: &[f64]) -> f64 {
        let _ = saved;
        f64::INFINITY
    }

    /// The value that the second phase's gates multiply, from the first phase's. Only `rh` of those gates is set. By default h before
    /// the step; a cell of one phase is never asked.
    fn mid(&self, wx: &[f64], rh: &[f64], prev: &[f64], unit: &[f64]) -> f64 {
        let _ = (wx, rh, unit);
        prev[0]
    }

    /// [`mid`](Cell::mid) again, from what forward saved. By default h before the step.
    fn mid_saved(&self, saved: &[f64], prev: &[f64]) -> f64 {
        let _ = saved;
        prev[0]
    }

    /// The output of a gate, by its index in [`CellSpec::gates`], from what forward saved and the states after the step; nothing
    /// if the cell does not tell. Asked for pictures alone: see [`Trace::gate`](crate::reference::Trace::gate).
    fn gate_value(&self, gate: usize, saved: &[f64], next: &[f64]) -> Option<f64> {
        let _ = (gate, saved, next);
        None
    }

    /// One step of one unit, backward. With two phases it is called twice: first with `d_mid` 0 for the gradients of the
    /// second phase's gates, which must not depend on it, then with the true `d_mid` for all.
    fn backward(&self, step: BackwardStep<'_>);
}

mod sealed {
    /// Public in a private module: it can be neither named nor made outside this crate.
    #[derive(Debug)]
    pub struct Token;
}

/// What one unit reads and writes in a forward step.
#[derive(Debug)]
pub struct ForwardStep<'a> {
    /// Input part of each gate.
    pub wx: &'a [f64],
    /// Recurrent part of each gate.
    pub rh: &'a [f64],
    /// States before the step.
    pub prev: &'a [f64],
    /// This unit's column of the [`unit_params`](CellSpec::unit_params), row after row.
    pub unit: &'a [f64],
    /// States after the step.
    pub next: &'a mut [f64],
    /// What backward will need.
    pub saved: &'a mut [f64],
}

/// What one unit reads and writes in a backward step.
#[derive(Debug)]
pub struct BackwardStep<'a> {
    /// What forward saved.
    pub saved: &'a [f64],
    /// States before the step.
    pub prev: &'a [f64],
    /// States after the step.
    pub next: &'a [f64],
    /// This unit's parameters.
    pub unit: &'a [f64],
    /// Gradient of the states after the step.
    pub d_next: &'a [f64],
    /// Gradient of [`mid`](Cell::mid); 0 for a cell of one phase.
    pub d_mid: f64,
    /// Gradient of the input part of each gate.
    pub d_wx: &'a mut [f64],
    /// Gradient of the recurrent part of each gate.
    pub d_rh: &'a mut [f64],
    /// Gradient of the states before the step, but for the part through W_hh.
    pub d_prev: &'a mut [f64],
    /// Gradient of this unit's parameters.
    pub d_unit: &'a mut [f64],
}

/// One cell of every kind in its default form, under the names that the command uses.
pub fn registry() -> Vec<Arc<dyn Cell>> {
    vec![
        Arc::new(Elman::linear()),
        Arc::new(Elman::tanh()),
        Arc::new(Elman::relu()),
        Arc::new(BinaryGate),
        Arc::new(Lstm::default()),
        Arc::new(Gru::default()),
        Arc::new(Gru::reset_before()),
    ]
}

/// The registry's cell of that name.
pub fn by_name(name: &str) -> Result<Arc<dyn Cell>> {
    let cells = registry();
    let known = cells.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ");
    let found = cells.into_iter().find(|c| c.name() == name);
    found.ok_or_else(|| Error::UnknownName { kind: "cell", name: name.into(), known })
}

/// Whether the cell's WGSL may run without wgpu's runtime checks.
pub(crate) fn is_trusted(cell: &dyn Cell) -> bool {
    cell.trusted(sealed::Token)
}

/// A shared cell is a cell, so that one `Arc<dyn Cell>` can go to the reference and to the GPU.
impl<C: Cell + ?Sized> Cell for Arc<C> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn spec(&self) -> CellSpec {
        (**self).spec()
    }
    fn validate(&self) -> Result<()> {
        (**self).validate()
    }
    fn wgsl(&self) -> Cow<'_, str> {
        (**self).wgsl()
    }
    fn trusted(&self, token: sealed::Token) -> bool {
        (**self).trusted(token)
    }
    fn forward(&self, step: ForwardStep<'_>) {
        (**self).forward(step);
    }
    fn surrogate(&self, step: ForwardStep<'_>, frozen: &[f64]) {
        (**self).surrogate(step, frozen);
    }
    fn margin(&self, saved: &[f64]) -> f64 {
        (**self).margin(saved)
    }
    fn mid(&self, wx: &[f64], rh: &[f64], prev: &[f64], unit: &[f64]) -> f64 {
        (**self).mid(wx, rh, prev, unit)
    }
    fn mid_saved(&self, saved: &[f64], prev: &[f64]) -> f64 {
        (**self).mid_saved(saved, prev)
    }
    fn gate_value(&self, gate: usize, saved: &[f64], next: &[f64]) -> Option<f64> {
        (**self).gate_value(gate, saved, next)
    }
    fn backward(&self, step: BackwardStep<'_>) {
        (**self).backward(step);
    }
}
