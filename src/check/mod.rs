//! The battery that every cell goes through, ours and yours: tolerances, test cases, finite differences, [`check_cell`].

#[cfg(test)]
pub(crate) mod bounds;
mod case;
mod finite_differences;
mod tolerance;

use std::fmt;
use std::sync::Arc;

pub use case::{Case, CaseData, Outcome};
pub use finite_differences::{FiniteDifferences, finite_differences};
pub use tolerance::Tolerance;

#[doc(hidden)]
pub use crate::schedule::persistent::{PersistentKernel, PersistentTarget, persistent_kernels};
pub use crate::schedule::unrolled::unrolled_kernels;

use crate::cell::{Cell, ShaderCell};
use crate::error::{Error, Result};
use crate::gpu::context::Context;
use crate::network::config::RnnConfig;
use crate::network::sequence::OutputGradients;
use crate::schedule::{self, Strategy};
use crate::train;

/// What [`check_cell`] did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CellReport {
    /// Its name.
    pub cell: String,
    /// Gradients of the CPU twin that agreed with finite differences.
    pub differences: usize,
    /// How many lie at a kink of the function, where differences say nothing.
    pub at_kinks: usize,
    /// GPU runs that agreed with the CPU twin, forward and backward.
    pub gpu_cases: usize,
    /// Those it ran under.
    pub strategies: Vec<Strategy>,
    /// The largest relative L2 error of a tensor.
    pub max_relative_error: f64,
}

impl fmt::Display for CellReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cell, differences, at_kinks, gpu_cases, strategies, max_relative_error } = self;
        let strategies: Vec<_> = strategies.iter().map(|s| s.name()).collect();
        write!(
            f,
            "{cell}: {differences} gradients agree with finite differences ({at_kinks} at kinks); {gpu_cases} GPU runs ({}) \
             agree with the reference, largest relative error {max_relative_error:.1e}",
            strategies.join(", ")
        )
    }
}

/// Puts a cell through the whole battery: its CPU backward against finite differences of its CPU forward, then its WGSL
/// against its CPU twin under every strategy that the device can run, with layers, directions, ragged lengths, resets, held steps,
/// dropout and carried states. The first disagreement is the error.
pub async fn check_cell(ctx: &Context, cell: impl Cell + 'static) -> Result<CellReport> {
    let cell: Arc<dyn Cell> = Arc::new(cell);
    let strategies = Strategy::all(ctx);
    let mut report = CellReport {
        cell: cell.name().into(),
        differences: 0,
        at_kinks: 0,
        gpu_cases: 0,
        strategies: strategies.clone(),
        max_relative_error: 0.0,
    };
    let stacked = RnnConfig::new(3, 4).with_num_layers(2);
    let everything = stacked.clone().with_bidirectional(true).with_dropout(0.3).with_batch_first(true);
    let plain = Case {
        ragged: false,
        resets: false,
        initial_state: false,
        d_final_state: false,
        ..Case::new(RnnConfig::new(3, 4), 4, 2)
    };
    for case in [plain.clone(), Case::new(stacked.with_bias(false), 3, 3), Case::new(everything, 5, 3)] {
        let data = case.data(&*cell)?;
        let d = OutputGradients { d_output: &data.d_output, d_final_state: data.d_final_state.as_deref() };
        let found = finite_differences(&*cell, &case.config, &data.params, &data.sequence(), &d).map_err(|error| {
            let odd = "the backward of the CPU twin is not the derivative of its forward";
            failed(&*cell, format!("finite differences of {case}: {error}; {odd}"))
        })?;
        report.differences += found.compared;
        report.at_kinks += found.at_kinks;
    }
    // A wrong gradient hides best behind many kinks.
    if report.at_kinks * 20 > report.differences + report.at_kinks {
        let what = format!("{} of {} gradients lie at kinks", report.at_kinks, report.differences + report.at_kinks);
        return Err(Error::Check { cell: report.cell, what });
    }

    let sized = |input: usize, hidden: usize, layers: usize| RnnConfig::new(input, hidden).with_num_layers(layers);
    let both = sized(5, 17, 2).with_bidirectional(true).with_dropout(0.3).with_batch_first(true);
    let cases = [
        plain,
        Case::new(sized(1, 1, 1), 3, 1),
        Case::new(sized(7, 9, 2).with_bias(false), 6, 3),
        Case { accumulate: true, ..Case::new(both.clone(), 5, 9) },
        Case { holds: true, ..Case::new(both.with_zero_output_for_mask(true), 6, 4) },
    ];
    for &strategy in &strategies {
        for case in &cases {
            let outcome = case.check_gpu(ctx, &cell, strategy).await.map_err(|error| match error {
                Error::Mismatch { .. } => {
                    let odd = odd_one(&error, strategy != strategies[0]);
                    failed(&*cell, format!("strategy {strategy}, {case}: {error}; {odd}"))
                }
                other => other,
            });
            let error = outcome?.max_rel_err;
            report.max_relative_error = report.max_relative_error.max(error);
            report.gpu_cases += 1;
        }
    }
    Ok(report)
}

fn failed(cell: &dyn Cell, what: String) -> Error {
    Error::Check { cell: cell.name().into(), what }
}

/// Which of the two disagrees with everything else that is known. Finite differences have shown the twin's backward to be the
/// derivative of its forward, and results are compared forward first.
fn odd_one(mismatch: &Error, another_strategy_agreed: bool) -> &'static str {
    let is_gradient = matches!(mismatch, Error::Mismatch { name, .. } if name.starts_with("d_"));
    match (another_strategy_agreed, is_gradient) {
        (true, _) => {
            "another strategy agrees with the CPU twin: in WGSL `d_rh` may differ from `d_wx` although `split_gradients` is off, else it is this strategy"
        }
        (false, true) => {
            "forward agrees, and the CPU twin's backward with finite differences of it: `cell_backward` in WGSL is the odd one"
        }
        (false, false) => {
            "`cell_forward` in WGSL and `forward` of the CPU twin compute different things; the twin's own backward agrees with its forward"
        }
    }
}

/// Rows from which a single step in inference goes by products over all of them on this device: for tests of both ways.
pub fn rows_by_products(ctx: &Context) -> usize {
    schedule::choose::products_rows(ctx.is_software())
}

/// WGSL modules that networks of this cell ask devices to compile, by the file of the entry point, over a sample of the sizes that are baked in:
/// for tools that validate shaders without a device. Natively: what a page downloads has no samples of the strategies' kernels.
pub fn shader_sources(cell: &dyn Cell) -> Vec<(&'static str, String)> {
    let cell = &ShaderCell::new(cell);
    let sources = crate::product::sources()
        .into_iter()
        .chain(crate::plan::prologue::sources(cell))
        .chain(crate::plan::projection::sources())
        .chain(schedule::sources(cell));
    let sources = sources
        .chain(crate::schedule::single_step::fused::sources(cell))
        .chain(crate::schedule::single_step::by_products::sources(cell))
        .chain(train::sources())
        .chain(crate::gpu::residency::sources());
    sources.map(|source| (source.name, source.wgsl)).collect()
}
