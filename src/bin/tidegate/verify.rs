//! Before anything is timed: does the device compute the right numbers?

use tidegate::check::{Case, Tolerance};
use tidegate::{Context, Error, SeqShape, Strategy};

use crate::Result;
use crate::cpu::widen;
use crate::suite::Workload;
use crate::timing::{GpuRun, RunData};

/// FLOPs that the reference may take for one case.
const MOST_FLOPS: f64 = 2e10;
/// Values that a cell with jumps may compute. With more, hardly any data would keep all of them clear of the jumps.
const MOST_VALUES_BY_JUMPS: usize = 100_000;

/// The shape at which the reference was met, and the largest relative L2 error of any tensor there.
#[derive(Debug, Clone, Copy)]
pub struct Verified {
    pub shape: SeqShape,
    pub max_rel_err: f64,
}

/// Compares outputs and all gradients with the reference, at the workload's own sizes but for as much of T and B as is
/// affordable; where that is not all, every other strategy must agree at the full shape.
pub fn verify(ctx: &Context, workload: &Workload, run: &GpuRun, data: &RunData) -> Result<Verified> {
    let shape = affordable(workload);
    // The options of the timed run, so that these kernels are the ones checked.
    let case = Case { ragged: false, resets: false, ..Case::new(workload.config.clone(), shape.seq_len, shape.batch_size) };
    let max_rel_err = pollster::block_on(case.check_gpu(ctx, &workload.cell, run.strategy()))?.max_rel_err;
    // Two strategies may round a value near a jump to either side, and then nothing after it agrees.
    if shape != workload.shape && !has_jumps(workload) {
        for other in Strategy::all(ctx).into_iter().filter(|&other| other != run.strategy()) {
            let compared = compare(workload, run, &GpuRun::new(ctx, workload, other, data)?);
            compared.map_err(|error| format!("{} against {}: {error}", run.strategy().name(), other.name()))?;
        }
    }
    Ok(Verified { shape, max_rel_err })
}

/// As many of T and B as forward and backward may take: first 32 steps, then the batch, then the rest of the steps.
fn affordable(workload: &Workload) -> SeqShape {
    let SeqShape { seq_len, batch_size } = workload.shape;
    let mut rows = (MOST_FLOPS / (3.0 * workload.forward_flops_per_row())) as usize;
    if has_jumps(workload) {
        let config = &workload.config;
        rows = rows.min(MOST_VALUES_BY_JUMPS / (config.num_layers * config.output_size()));
    }
    let batch_size = batch_size.min((rows / seq_len.min(32)).max(1));
    SeqShape { seq_len: seq_len.min((rows / batch_size).max(1)), batch_size }
}

fn has_jumps(workload: &Workload) -> bool {
    workload.cell.margin(&vec![0.5; workload.cell.saved()]).is_finite()
}

/// Holds one strategy's results to another's.
fn compare(workload: &Workload, run: &GpuRun, other: &GpuRun) -> Result<(), Error> {
    run.run()?;
    other.run()?;
    for ((name, values), (_, others)) in run.results()?.into_iter().zip(other.results()?) {
        let tolerance = Tolerance::new(&workload.config, workload.shape, name.starts_with("d_"));
        tolerance.compare(name, &widen(&others), &values)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidegate::cell::by_name;
    use tidegate::{Mode, RnnConfig};

    use super::*;

    fn shape(cell: &str, hidden: usize, seq_len: usize, batch_size: usize) -> (usize, usize) {
        let shape = SeqShape { seq_len, batch_size };
        let config = RnnConfig::new(hidden, hidden);
        let shape = affordable(&Workload { cell: by_name(cell).unwrap(), config, shape, mode: Mode::Inference });
        (shape.seq_len, shape.batch_size)
    }

    #[test]
    fn verifies_as_much_as_is_affordable() {
        assert_eq!(shape("lstm", 256, 64, 16), (64, 16));
        // 2·4·1024·2048·3 FLOPs a row leave 397 rows.
        assert_eq!(shape("lstm", 1024, 1000, 64), (33, 12));
        assert_eq!(shape("lstm", 1024, 4, 64), (4, 64));
        assert_eq!(shape("lstm", 65536, 1000, 64), (1, 1));
        // 100,000 values at 1000 a row.
        assert_eq!(shape("binary_gate", 1000, 64, 16), (33, 3));
    }
}
