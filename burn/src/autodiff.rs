//! Gradients by Burn's autodiff.
//!
//! An operation of Burn's autodiff has one output and a fixed number of parents; a pass here has up to three outputs and as many weights
//! as the network. So a pass is a chain of tokens, tensors of one element whose value nobody reads:
//!
//! ```text
//! weights of gate 0 -> token -> ... -> token of the last gate -> token of the pass -> y
//!                                                    x, h, c ->                   -> h'
//!                                                                                 -> c'
//! ```
//!
//! Backward, each output leaves its gradient in the pass and gives its token a zero, the pass's token runs tidegate and gives x, h and c
//! their gradients, and the chain hands out the weights'. Burn goes by depth, so each comes after all that it needs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{AutodiffBackend, Cube};

use crate::backend::launch;
use crate::execute::{BackwardWork, ForwardWork, Job, Saved};

type Plain = FloatTensor<Cube>;
type Tracked<C> = FloatTensor<Autodiff<Cube, C>>;

/// A pass that gradients go back through.
#[derive(Debug)]
struct Pass {
    job: Arc<Job>,
    saved: Saved,
    /// One zero, which forward made.
    token: Plain,
    travelling: Mutex<Travelling>,
}

/// Gradients on their way from one node to another.
#[derive(Debug, Default)]
struct Travelling {
    /// Of y, h and c.
    outputs: [Option<Plain>; 3],
    /// In the order of the call's weights.
    weights: Vec<Option<Plain>>,
}

impl Pass {
    fn travelling(&self) -> MutexGuard<'_, Travelling> {
        self.travelling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// y, h and c of the pass: their gradients wait in it.
#[derive(Debug)]
struct Output(usize);

impl Backward<Cube, 1> for Output {
    type State = Arc<Pass>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = grads.consume::<Cube>(&ops.node);
        ops.state.travelling().outputs[self.0] = Some(gradient);
        if let [Some(token)] = &ops.parents {
            grads.register::<Cube>(token.id, ops.state.token.clone());
        }
    }
}

/// The pass itself. Parents: x, the token of the last gate, then h and c if there are initial states.
#[derive(Debug)]
struct Recurrence;

impl<const N: usize> Backward<Cube, N> for Recurrence {
    type State = Arc<Pass>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        // The zeros of the outputs.
        grads.consume::<Cube>(&ops.node);
        let pass = ops.state;
        let outputs = std::mem::take(&mut pass.travelling().outputs);
        let received = outputs.each_ref().map(Option::is_some);
        let wants_states = ops.parents.iter().skip(2).any(Option::is_some);
        let work = BackwardWork {
            job: pass.job.clone(),
            saved: pass.saved.clone(),
            received,
            wants_input: ops.parents[0].is_some(),
            wants_states,
        };
        let inputs = outputs.into_iter().flatten().chain([pass.token.clone()]).collect();
        let mut gradients = launch(Arc::new(work), inputs, None).into_iter();
        if let Some(x) = &ops.parents[0] {
            grads.register::<Cube>(x.id, gradients.next().expect("it was asked for"));
        }
        if wants_states {
            for (state, gradient) in ops.parents.iter().skip(2).zip(gradients.by_ref()) {
                if let Some(state) = state {
                    grads.register::<Cube>(state.id, gradient);
                }
            }
        }
        if let Some(weights) = &ops.parents[1] {
            pass.travelling().weights = gradients.map(Some).collect();
            grads.register::<Cube>(weights.id, pass.token.clone());
        }
    }
}

/// The weights of a gate from `first` on. Parents: they, and behind them the token of the gate before, if there is one.
#[derive(Debug)]
struct Gate {
    first: usize,
    weights: usize,
}

impl<const N: usize> Backward<Cube, N> for Gate {
    type State = Arc<Pass>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        grads.consume::<Cube>(&ops.node);
        for (index, parent) in ops.parents.iter().enumerate() {
            let Some(parent) = parent else { continue };
            let gradient = if index < self.weights {
                let taken = ops.state.travelling().weights[self.first + index].take();
                taken.expect("each weight has one gradient")
            } else {
                ops.state.token.clone()
            };
            grads.register::<Cube>(parent.id, gradient);
        }
    }
}

/// Adds a node of these parents to Burn's graph, with `output` as its value.
fn node<C: CheckpointStrategy, B, const N: usize>(
    operation: B,
    parents: Vec<NodeGuard>,
    pass: &Arc<Pass>,
    output: Plain,
) -> Tracked<C>
where
    B: Backward<Cube, N, State = Arc<Pass>>,
{
    let parents: [NodeGuard; N] = parents.try_into().expect("the caller counted");
    match operation.prepare::<C>(parents).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(pass.clone(), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    }
}

/// The token of the last gate.
fn chain<C: CheckpointStrategy>(pass: &Arc<Pass>, weights: &[Tracked<C>], per_gate: usize) -> Tracked<C> {
    let mut token: Option<Tracked<C>> = None;
    for (index, gate) in weights.chunks(per_gate).enumerate() {
        let operation = Gate { first: index * per_gate, weights: per_gate };
        let mut parents: Vec<_> = gate.iter().map(|weight| weight.node()).collect();
        parents.extend(token.as_ref().map(|token| token.node()));
        let output = pass.token.clone();
        token = Some(match parents.len() {
            2 => node::<C, _, 2>(operation, parents, pass, output),
            3 => node::<C, _, 3>(operation, parents, pass, output),
            4 => node::<C, _, 4>(operation, parents, pass, output),
            _ => node::<C, _, 5>(operation, parents, pass, output),
        });
    }
    token.expect("every network has a gate")
}

/// Forward on autodiff tensors: `inputs` and the result as [`ForwardWork`] has them. Without a gradient to go back, it is inference.
pub(crate) fn forward<C: CheckpointStrategy>(
    job: Arc<Job>,
    inputs: Vec<Tracked<C>>,
    lengths: Option<IntTensor<Cube>>,
) -> Vec<Tracked<C>> {
    let tracked = inputs.iter().any(|tensor| tensor.is_tracked());
    let plain = inputs.iter().map(|tensor| tensor.primitive().clone()).collect();
    if !tracked {
        let outputs = launch(Arc::new(ForwardWork { job, saved: None }), plain, lengths);
        return outputs.into_iter().map(Autodiff::<Cube, C>::from_inner).collect();
    }
    let saved = Saved::default();
    let work = ForwardWork { job: job.clone(), saved: Some(saved.clone()) };
    let mut outputs = launch(Arc::new(work), plain, lengths);
    let token = outputs.pop().expect("a forward in training ends in a token");
    let weights = job.weights.len();
    let per_gate = job.weights_of_gate;
    let pass = Arc::new(Pass { job, saved, token, travelling: Mutex::default() });
    let gates = chain::<C>(&pass, &inputs[1..=weights], per_gate);
    let parents: Vec<_> = [&inputs[0], &gates].into_iter().chain(&inputs[1 + weights..]).map(|tensor| tensor.node()).collect();
    let output = pass.token.clone();
    let token = match parents.len() {
        2 => node::<C, _, 2>(Recurrence, parents, &pass, output),
        3 => node::<C, _, 3>(Recurrence, parents, &pass, output),
        _ => node::<C, _, 4>(Recurrence, parents, &pass, output),
    };
    let output = |(index, tensor)| node::<C, _, 1>(Output(index), vec![token.node()], &pass, tensor);
    outputs.into_iter().enumerate().map(output).collect()
}
