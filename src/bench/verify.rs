//! Before anything is timed: does the device compute the right numbers?

use std::collections::HashMap;

use super::run::{GpuRun, Products, RunData, rnn};
use super::workload::{Kind, Workload};
use crate::check::{Case, Tolerance};
use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::network::sequence::{Mode, SeqShape};
use crate::product::Tile;
use crate::reference::device::widen;
use crate::rnn::Rnn;
use crate::schedule::Strategy;

/// FLOPs that the reference may take for one case.
const MOST_FLOPS: f64 = 2e10;
/// The same where a suite has a hundred large cases and time may be short.
const MOST_FLOPS_OF_A_LAYER: f64 = 1e9;
/// The same of a bulk product, but for rows enough to fill the smallest tile.
const MOST_FLOPS_OF_A_PRODUCT: f64 = 4e9;
const LEAST_ROWS_OF_A_PRODUCT: usize = 40;
/// Values that a cell with jumps or kinks may compute. With more, hardly any data would keep all of them clear of those.
const MOST_VALUES_BY_JUMPS: usize = 100_000;
/// Draws of data with which a cell with a kink may meet the reference. Of a hundred draws of 100,000 values about one has a value
/// that f32 and f64 put on different sides; a wrong kernel fails with all.
const SEEDS_BY_KINKS: u64 = 3;
/// Relative L2 error between the gradients of two strategies on a cell with a kink: at full size a few of millions of values lie
/// on different sides, and each passes a gradient on or does not. One wrong row of B or unit of H is more than a hundredth.
const GRADIENTS_BY_KINKS: f64 = 1e-2;

/// The shape at which the reference was met, and the largest relative L2 error of any tensor there.
#[derive(Debug, Clone, Copy)]
pub struct Verified {
    /// All of the workload's, or as much as the reference does in a reasonable time.
    pub shape: SeqShape,
    /// Largest over all outputs and gradients.
    pub max_rel_err: f64,
}

/// Chunks through which a stream is followed.
const CHUNKS: usize = 8;

/// Verifies the workloads of one device. A case that two of them share, such as inference and training of one network at one
/// shape, is run once.
#[derive(Debug)]
pub struct Verifier {
    /// What all runs are told to take.
    pub products: Products,
    /// The error of each case.
    cases: HashMap<String, f64>,
}

impl Verifier {
    pub fn new(products: Products) -> Self {
        Self { products, cases: HashMap::new() }
    }

    /// Compares outputs, and of training all gradients, with the reference, at the workload's own sizes but for as much of T and B as is
    /// affordable; where that is not all, every other strategy must agree at the full shape. A stream is also followed.
    pub async fn verify(&mut self, ctx: &Context, workload: &Workload, run: &GpuRun, data: &RunData) -> Result<Verified> {
        let shape = affordable(workload);
        let mut max_rel_err = self.check(ctx, workload, shape, run.strategy()).await?;
        // Two strategies may round a value near a jump to either side, and then nothing after it agrees.
        if has_jumps(workload) {
            return Ok(Verified { shape, max_rel_err });
        }
        // A tuned persistent run is laid out for other workgroups than the case was.
        if shape != workload.shape || run.strategy() == Strategy::Persistent {
            for (name, other) in others(ctx, workload, run.strategy())? {
                if !other.fits(workload.shape, workload.mode) {
                    continue;
                }
                let other_run = GpuRun::new(&other, workload, data)?;
                let compared = compare(workload, run, &other_run, data).await;
                compared.map_err(|error| failed(format!("{} against {name}", run.strategy().name()), error))?;
            }
        } else if workload.is_stream() {
            let followed = follow(workload, run, data).await;
            let followed = followed.map_err(|error| failed(format!("after {CHUNKS} chunks"), error))?;
            max_rel_err = max_rel_err.max(followed);
        }
        Ok(Verified { shape, max_rel_err })
    }

    async fn check(&mut self, ctx: &Context, workload: &Workload, shape: SeqShape, strategy: Strategy) -> Result<f64> {
        let Workload { cell, config, .. } = workload;
        // Every cell of `bench` is one of those that a name stands for.
        let initial_state = workload.has_initial_state();
        let backward = workload.mode == Mode::Training;
        let key = |backward: bool| {
            format!("{} {config:?} {shape:?} {strategy:?} {:?} {initial_state} {backward}", cell.name(), workload.dtype)
        };
        // Who was right in training was so in inference.
        if let Some(&error) = [true, backward].iter().find_map(|&backward| self.cases.get(&key(backward))) {
            return Ok(error);
        }
        // The options of the timed run, so that these kernels are the ones checked.
        let mut case = Case {
            initial_state,
            backward,
            tile: self.products.tile,
            cooperative: self.products.cooperative,
            layout: self.products.layout.map(String::from),
            dtype: workload.dtype,
            ragged: false,
            resets: false,
            ..Case::new(config.clone(), shape.seq_len, shape.batch_size)
        };
        let mut outcome = case.check_gpu(ctx, cell, strategy).await;
        while matches!(outcome, Err(Error::Mismatch { .. })) && has_kink(workload) && case.seed < SEEDS_BY_KINKS {
            case.seed += 1;
            outcome = case.check_gpu(ctx, cell, strategy).await;
        }
        let error = outcome?.max_rel_err;
        self.cases.insert(key(backward), error);
        Ok(error)
    }
}

fn failed(what: String, error: Error) -> Error {
    Error::Verification { what, error: Box::new(error) }
}

/// As many of T and B as forward, and in training backward, may take: first 32 steps, then the batch, then the rest of the steps.
fn affordable(workload: &Workload) -> SeqShape {
    let SeqShape { seq_len, batch_size } = workload.shape;
    let most = match workload.kind {
        Kind::Layer { .. } => MOST_FLOPS_OF_A_LAYER,
        Kind::Product => MOST_FLOPS_OF_A_PRODUCT,
        _ => MOST_FLOPS,
    };
    let passes = if workload.mode == Mode::Training { 3.0 } else { 1.0 };
    let mut rows = (most / (passes * workload.forward_flops_per_row())) as usize;
    if workload.kind == Kind::Product {
        rows = rows.max(LEAST_ROWS_OF_A_PRODUCT);
    }
    if has_jumps(workload) || has_kink(workload) {
        let config = &workload.config;
        rows = rows.min(MOST_VALUES_BY_JUMPS / (config.num_layers * config.output_size()));
    }
    let batch_size = batch_size.min((rows / seq_len.min(32)).max(1));
    SeqShape { seq_len: seq_len.min((rows / batch_size).max(1)), batch_size }
}

/// What a run at full shape is checked against: the other strategies, but bulk products, which all of them share, against the
/// smallest tile. That is the one of the few rows that the reference met.
fn others(ctx: &Context, workload: &Workload, strategy: Strategy) -> Result<Vec<(&'static str, Rnn)>> {
    if workload.kind == Kind::Product {
        let tile = Tile::ALL[0];
        return Ok(vec![(tile.name(), rnn(ctx, workload, strategy)?.with_tile(tile))]);
    }
    let others = Strategy::all(ctx).into_iter().filter(|&other| other != strategy);
    // One witness is enough where time may be short.
    let others = others.take(if matches!(workload.kind, Kind::Layer { .. }) { 1 } else { usize::MAX });
    others.map(|other| Ok((other.name(), rnn(ctx, workload, other)?))).collect()
}

fn has_jumps(workload: &Workload) -> bool {
    workload.cell.margin(&vec![0.5; workload.cell.spec().saved]).is_finite()
}

/// Whether the slope jumps where the value does not, so that gradients alone are at the mercy of a rounding.
fn has_kink(workload: &Workload) -> bool {
    workload.cell.name() == "rnn_relu"
}

/// Checks one strategy's results against another's.
async fn compare(workload: &Workload, run: &GpuRun, other: &GpuRun, data: &RunData) -> Result<()> {
    run.restart(data);
    run.run().await?;
    other.run().await?;
    for ((name, values), (_, others)) in run.results().await?.into_iter().zip(other.results().await?) {
        let is_gradient = name.starts_with("d_");
        let mut tolerance = Tolerance::new(&workload.config, workload.shape, is_gradient).for_dtype(workload.dtype);
        if is_gradient && has_kink(workload) {
            (tolerance.relative_l2, tolerance.absolute) = (GRADIENTS_BY_KINKS, f64::INFINITY);
        }
        tolerance.compare(name, &widen(&others), &values)?;
    }
    Ok(())
}

/// Checks the state and output of a stream's last chunk of several against the reference's. Gives the largest relative L2 error.
async fn follow(workload: &Workload, run: &GpuRun, data: &RunData) -> Result<f64> {
    let mut truth = data.on_cpu(workload);
    run.restart(data);
    for _ in 1..CHUNKS {
        run.run().await?;
        truth.go_on()?;
    }
    run.run().await?;
    let truth = truth.go_on()?;
    let shape = SeqShape { seq_len: CHUNKS * workload.shape.seq_len, ..workload.shape };
    let tolerance = Tolerance::new(&workload.config, shape, false).for_dtype(workload.dtype);
    let mut worst = 0.0f64;
    for (name, values) in run.results().await? {
        let truth = if name == "output" { &truth.output } else { &truth.final_state };
        worst = worst.max(tolerance.compare(name, truth, &values)?);
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::by_name;
    use crate::gpu::dtype::Dtype;
    use crate::network::config::RnnConfig;

    fn shape(cell: &str, hidden: usize, seq_len: usize, batch_size: usize) -> (usize, usize) {
        shape_of(cell, hidden, seq_len, batch_size, Mode::Training, Kind::Throughput)
    }

    fn shape_of(cell: &str, hidden: usize, seq_len: usize, batch_size: usize, mode: Mode, kind: Kind) -> (usize, usize) {
        let shape = SeqShape { seq_len, batch_size };
        let config = RnnConfig::new(hidden, hidden);
        let shape = affordable(&Workload { cell: by_name(cell).unwrap(), config, shape, mode, kind, dtype: Dtype::F32 });
        (shape.seq_len, shape.batch_size)
    }

    #[test]
    fn verifies_as_much_as_is_affordable() {
        assert_eq!(shape("lstm", 256, 64, 16), (64, 16));
        // 2·4·1024·2048·3 FLOPs a row leave 397 rows.
        assert_eq!(shape("lstm", 1024, 1000, 64), (33, 12));
        assert_eq!(shape("lstm", 1024, 4, 64), (4, 64));
        // Forward alone three times as many, of which 32 steps are for 37 sequences.
        assert_eq!(shape_of("lstm", 1024, 1000, 64, Mode::Inference, Kind::Throughput), (32, 37));
        let layer = Kind::Layer { published_ms: None, tf32_ms: None };
        assert_eq!(shape_of("lstm", 1024, 256, 16, Mode::Inference, layer), (59, 1));
        // 2·4096·8192 FLOPs a row leave 59, and in training 19.
        let product = |mode| shape_of("rnn_linear", 4096, 1, 4096, mode, Kind::Product);
        assert_eq!([Mode::Inference, Mode::Training].map(product), [(1, 59), (1, 40)]);
        assert_eq!(shape("lstm", 65536, 1000, 64), (1, 1));
        // 100,000 values at 1000 a row.
        assert_eq!(shape("binary_gate", 1000, 64, 16), (33, 3));
        assert_eq!(shape("rnn_relu", 1000, 64, 16), (33, 3));
        assert_eq!(shape("rnn_tanh", 1000, 64, 16), (64, 16));
    }
}
