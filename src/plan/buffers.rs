//! The caller's buffers: how large they must be, which are given, and where they appear in a program.

use wgpu::BufferBinding;

use crate::error::{Error, Limit, Result};
use crate::gpu::element::Element;
use crate::gpu::program::{Role, Slot};
use crate::network::sequence::Mode;
use crate::plan::binding::IntoBinding;

/// Bytes of every buffer that a [`Plan`](crate::Plan) works on. A gradient that is not listed has the size of what it is the
/// gradient of. "Stored" means: as the network's [`Dtype`](crate::Dtype).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferSizes {
    /// The flat parameter block, stored.
    pub params: u64,
    /// Its gradient, f32.
    pub d_params: u64,
    /// `[T, B, I]` stored; `d_input` too.
    pub input: u64,
    /// `[T, B, D·H]` stored, `[T, B, D·P]` where h is projected; `d_output` too.
    pub output: u64,
    /// `[S, L·D, B, H]` f32, of which a projected h takes `[L·D, B, P]`: initial and final states and their gradients.
    pub state: u64,
    /// `[B]` u32.
    pub lengths: u64,
    /// `[T, B]` u32.
    pub reset: u64,
    /// `[T, B]` u32.
    pub hold: u64,
    /// Four u32: seed low, seed high, call, 0.
    pub dropout_state: u64,
    /// Four u32 of strategy persistent: its dispatches and how many of them failed and were repaired, counted up; the most workgroups that
    /// came to a roll call that failed; and 0.
    pub status: u64,
    /// What forward keeps for backward; 0 in inference, and where nothing need be kept.
    pub reserve: u64,
    /// Scratch of forward and backward; nothing in it outlives an encode.
    pub workspace: u64,
}

/// Buffers of a forward pass. Each binding must hold at least the bytes of [`Plan::sizes`](crate::Plan::sizes), start at a multiple of the
/// device's storage offset alignment, and come from a buffer with usage `STORAGE`. "Stored" as in [`BufferSizes`].
#[derive(Debug, Clone)]
pub struct ForwardBuffers<'a> {
    /// The flat parameter block, stored. Read.
    pub params: BufferBinding<'a>,
    /// `[T, B, I]` stored, `[B, T, I]` if batch-first. Read.
    pub input: BufferBinding<'a>,
    /// `[T, B, D·H]` stored likewise. Written; backward reads it again.
    pub output: BufferBinding<'a>,
    /// `[S, L·D, B, H]` f32, zeros if absent. Read.
    pub initial_state: Option<BufferBinding<'a>>,
    /// `[S, L·D, B, H]` f32. Written. In inference it may be the binding of `initial_state`; in training backward reads that again.
    pub final_state: Option<BufferBinding<'a>>,
    /// `[B]` u32, each 0..=T; larger values count as T. Read.
    pub lengths: Option<BufferBinding<'a>>,
    /// `[T, B]` u32, time-major always: non-zero cuts the edge before t. Read.
    pub reset: Option<BufferBinding<'a>>,
    /// `[T, B]` u32, time-major always: non-zero holds the row at step t, see [`Sequence::hold`](crate::Sequence::hold). Read.
    pub hold: Option<BufferBinding<'a>>,
    /// Four u32 (seed low, seed high, call, 0): needed in training with dropout. Each forward increments the call counter.
    pub dropout_state: Option<BufferBinding<'a>>,
    /// What backward needs; must outlive it unchanged. Needed in training where `sizes().reserve` is not 0.
    pub reserve: Option<BufferBinding<'a>>,
    /// Four u32, never cleared: strategy persistent adds its dispatches to the first, its repairs to the second, and of these to the
    /// fourth those of gradients that outgrew f16; the third is the most workgroups that answered a roll call that failed. Backward adds
    /// to it too. Without it a repaired run goes unnoticed.
    pub status: Option<BufferBinding<'a>>,
    /// Scratch. May serve any number of plans whose work does not overlap.
    pub workspace: BufferBinding<'a>,
}

impl<'a> ForwardBuffers<'a> {
    /// The four buffers that are always needed, each a `&wgpu::Buffer` or a binding of a part of one; the others are fields to set.
    pub fn new(
        params: impl IntoBinding<'a>,
        input: impl IntoBinding<'a>,
        output: impl IntoBinding<'a>,
        workspace: impl IntoBinding<'a>,
    ) -> Self {
        Self {
            params: params.into_binding(),
            input: input.into_binding(),
            output: output.into_binding(),
            initial_state: None,
            final_state: None,
            lengths: None,
            reset: None,
            hold: None,
            dropout_state: None,
            reserve: None,
            status: None,
            workspace: workspace.into_binding(),
        }
    }

    /// Starts from this state instead of zeros.
    pub fn with_initial_state(self, initial_state: impl IntoBinding<'a>) -> Self {
        Self { initial_state: Some(initial_state.into_binding()), ..self }
    }

    /// Writes the final state there.
    pub fn with_final_state(self, final_state: impl IntoBinding<'a>) -> Self {
        Self { final_state: Some(final_state.into_binding()), ..self }
    }

    /// Takes each row's number of steps from there.
    pub fn with_lengths(self, lengths: impl IntoBinding<'a>) -> Self {
        Self { lengths: Some(lengths.into_binding()), ..self }
    }

    /// Cuts edges where this mask is not 0.
    pub fn with_reset(self, reset: impl IntoBinding<'a>) -> Self {
        Self { reset: Some(reset.into_binding()), ..self }
    }

    /// Holds rows at the steps where this mask is not 0.
    pub fn with_hold(self, hold: impl IntoBinding<'a>) -> Self {
        Self { hold: Some(hold.into_binding()), ..self }
    }

    /// Draws dropout masks by this key and counts its calls.
    pub fn with_dropout_state(self, dropout_state: impl IntoBinding<'a>) -> Self {
        Self { dropout_state: Some(dropout_state.into_binding()), ..self }
    }

    /// Keeps there what backward needs.
    pub fn with_reserve(self, reserve: impl IntoBinding<'a>) -> Self {
        Self { reserve: Some(reserve.into_binding()), ..self }
    }

    /// Counts dispatches and repairs of strategy persistent there.
    pub fn with_status(self, status: impl IntoBinding<'a>) -> Self {
        Self { status: Some(status.into_binding()), ..self }
    }
}

/// Buffers of a backward pass.
#[derive(Debug, Clone)]
pub struct BackwardBuffers<'a> {
    /// Those of the forward pass, as it left them. `final_state` and `dropout_state` are not used.
    pub forward: ForwardBuffers<'a>,
    /// As `output`. Read; ignored past a length, and where a held step puts out 0.
    pub d_output: BufferBinding<'a>,
    /// As `final_state`, zeros if absent. Read.
    pub d_final_state: Option<BufferBinding<'a>>,
    /// The flat parameter block, f32 whatever the parameters are. Written.
    pub d_params: BufferBinding<'a>,
    /// As `input`. Written; leaving it out saves a product.
    pub d_input: Option<BufferBinding<'a>>,
    /// As `initial_state`. Written; may be the binding of `d_final_state`; leaving it out saves a product.
    pub d_initial_state: Option<BufferBinding<'a>>,
    /// Adds to `d_params` instead of overwriting it. `d_input` and `d_initial_state` are always overwritten.
    pub accumulate: bool,
}

impl<'a> BackwardBuffers<'a> {
    /// The three that are always needed; the others are fields to set. Overwrites `d_params`.
    pub fn new(forward: ForwardBuffers<'a>, d_output: impl IntoBinding<'a>, d_params: impl IntoBinding<'a>) -> Self {
        Self {
            forward,
            d_output: d_output.into_binding(),
            d_final_state: None,
            d_params: d_params.into_binding(),
            d_input: None,
            d_initial_state: None,
            accumulate: false,
        }
    }

    /// Takes the gradient of the final state from there instead of zeros.
    pub fn with_d_final_state(self, d_final_state: impl IntoBinding<'a>) -> Self {
        Self { d_final_state: Some(d_final_state.into_binding()), ..self }
    }

    /// Writes the gradient of the input there.
    pub fn with_d_input(self, d_input: impl IntoBinding<'a>) -> Self {
        Self { d_input: Some(d_input.into_binding()), ..self }
    }

    /// Writes the gradient of the initial state there.
    pub fn with_d_initial_state(self, d_initial_state: impl IntoBinding<'a>) -> Self {
        Self { d_initial_state: Some(d_initial_state.into_binding()), ..self }
    }

    /// Adds to `d_params` instead of overwriting it.
    pub fn with_accumulate(self, accumulate: bool) -> Self {
        Self { accumulate, ..self }
    }
}

const FEWER_ROWS: &str = "; take fewer rows at a time";

/// What to do about a run that is too long, of so many steps.
fn shorter(mode: Mode, seq_len: usize, needed: u64, actual: u64) -> String {
    let longest = (seq_len as u128 * u128::from(actual) / u128::from(needed)) as u64;
    match (mode, longest) {
        (_, 0) => FEWER_ROWS.into(),
        (Mode::Training, longest) => format!(
            "; at this B up to {longest} steps fit: train on chunks (truncated BPTT; a `Trainer` by `TrainConfig::with_carry_state`)"
        ),
        (Mode::Inference, longest) => {
            format!("; at this B up to {longest} steps fit: go on in chunks, each from the state where the last ended")
        }
    }
}

impl BufferSizes {
    /// Refuses what no buffer of the device can hold, and slots that no binding of it can.
    pub(crate) fn check(&self, mode: Mode, seq_len: usize, limits: &wgpu::Limits, slots: &[Slot]) -> Result<()> {
        self.check_each("max_buffer_size", limits.max_buffer_size, mode, seq_len)?;
        let widest = |role| slots.iter().filter(|slot| slot.role == role).map(|slot| slot.size).max().unwrap_or(0);
        let bound = Self { reserve: widest(Role::Reserve), workspace: widest(Role::Workspace), ..*self };
        bound.check_each("max_storage_buffer_binding_size", limits.max_storage_buffer_binding_size, mode, seq_len)
    }

    fn check_each(&self, limit: &'static str, actual: u64, mode: Mode, seq_len: usize) -> Result<()> {
        // With whether it grows with T.
        let all = [
            ("params", self.params, false),
            ("d_params", if mode == Mode::Training { self.d_params } else { 0 }, false),
            ("input", self.input, true),
            ("output", self.output, true),
            ("initial_state", self.state, false),
            ("reserve", self.reserve, true),
            ("workspace", self.workspace, mode == Mode::Training),
        ];
        for (name, needed, grows) in all {
            if needed > actual {
                let hint = match (grows, name) {
                    (true, _) => shorter(mode, seq_len, needed, actual),
                    (false, "initial_state" | "workspace") => FEWER_ROWS.into(),
                    (false, _) => String::new(),
                };
                return Err(Error::Limit { limit: Limit::Device(limit, format!("of `{name}`{hint}")), needed, actual });
            }
        }
        Ok(())
    }
}

/// Which optional buffers a program works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    pub initial_state: bool,
    pub final_state: bool,
    pub lengths: bool,
    pub reset: bool,
    pub hold: bool,
    pub d_final_state: bool,
    pub d_input: bool,
    pub d_initial_state: bool,
    pub accumulate: bool,
    pub status: bool,
    /// Whether the final state goes where the initial one is.
    pub in_place: bool,
    /// Whether the recurrence takes what the call gives from the caller's buffers: see `Schedule::takes_the_call`.
    pub direct: bool,
}

pub(crate) fn forward_buffer<'a>(buffers: &ForwardBuffers<'a>, role: Role) -> Option<BufferBinding<'a>> {
    match role {
        Role::Params => Some(buffers.params.clone()),
        Role::Input => Some(buffers.input.clone()),
        Role::Output => Some(buffers.output.clone()),
        Role::InitialState => buffers.initial_state.clone(),
        Role::FinalState => buffers.final_state.clone(),
        Role::Lengths => buffers.lengths.clone(),
        Role::Reset => buffers.reset.clone(),
        Role::Hold => buffers.hold.clone(),
        Role::DropoutState => buffers.dropout_state.clone(),
        Role::Reserve => buffers.reserve.clone(),
        Role::Status => buffers.status.clone(),
        Role::Workspace => Some(buffers.workspace.clone()),
        _ => None,
    }
}

impl Options {
    pub(crate) fn of_forward(buffers: &ForwardBuffers<'_>) -> Self {
        Self {
            initial_state: buffers.initial_state.is_some(),
            final_state: false,
            lengths: buffers.lengths.is_some(),
            reset: buffers.reset.is_some(),
            hold: buffers.hold.is_some(),
            d_final_state: false,
            d_input: false,
            d_initial_state: false,
            accumulate: false,
            status: buffers.status.is_some(),
            in_place: false,
            direct: false,
        }
    }
}

/// The caller's buffers as slots, absent ones empty.
#[derive(Debug)]
pub(crate) struct UserSlots {
    pub params: Slot,
    pub input: Slot,
    pub output: Slot,
    pub initial_state: Slot,
    pub final_state: Slot,
    pub lengths: Slot,
    pub reset: Slot,
    pub hold: Slot,
    pub d_output: Slot,
    pub d_final_state: Slot,
    pub d_input: Slot,
    pub d_initial_state: Slot,
    pub status: Slot,
}

impl UserSlots {
    /// `element` is how parameters, input and output are stored.
    pub(crate) fn new(sizes: &BufferSizes, options: Options, element: Element) -> Self {
        let slot = |role, bytes: u64| Slot::whole(role, bytes / 4);
        let stored = |role, size: u64| Slot { role, offset: 0, size, element };
        Self {
            params: stored(Role::Params, sizes.params),
            input: stored(Role::Input, sizes.input),
            output: stored(Role::Output, sizes.output),
            initial_state: slot(Role::InitialState, sizes.state).only_if(options.initial_state),
            final_state: slot(Role::FinalState, sizes.state).only_if(options.final_state),
            lengths: slot(Role::Lengths, sizes.lengths).only_if(options.lengths),
            reset: slot(Role::Reset, sizes.reset).only_if(options.reset),
            hold: slot(Role::Hold, sizes.hold).only_if(options.hold),
            d_output: stored(Role::DOutput, sizes.output),
            d_final_state: slot(Role::DFinalState, sizes.state).only_if(options.d_final_state),
            d_input: stored(Role::DInput, sizes.input),
            d_initial_state: slot(Role::DInitialState, sizes.state).only_if(options.d_initial_state),
            status: slot(Role::Status, sizes.status).only_if(options.status),
        }
    }
}
