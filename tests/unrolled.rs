//! The kernels of strategies resident and stepwise that only GPUs have, on this adapter: made for NVIDIA's registers, and for those
//! of a vendor that has few, with the subgroups that there are.

mod common;

use std::sync::Arc;

use tidegate::check::Case;
use tidegate::{Cell, Dtype, RnnConfig, Strategy, cell};

fn check(name: &str, cell: &Arc<dyn Cell>, vendor: &str, case: &Case) {
    let ctx = common::context();
    let case = Case { layout: Some(format!("vendor={vendor}")), ..case.clone() };
    for strategy in [Strategy::Resident, Strategy::Stepwise] {
        let outcome = pollster::block_on(case.check_gpu(&ctx, cell, strategy));
        outcome.unwrap_or_else(|e| panic!("{name} under {}: {e}\n{case:?}", strategy.name()));
    }
}

/// Both directions, and chunks of a few steps.
fn case(hidden: usize, batch: usize) -> Case {
    let config = RnnConfig::new(3, hidden).with_bidirectional(true);
    Case { dispatch_flops: Some(5_000), ..Case::new(config, 5, batch) }
}

/// Weights by fours and one by one, K that fills its blocks and that does not, one row and several.
#[test]
fn every_cell() {
    for cell in cell::registry() {
        for (hidden, batch) in [(16, 1), (5, 3)] {
            check(cell.name(), &cell, "nvidia", &case(hidden, batch));
        }
    }
}

#[test]
fn every_option() {
    for (name, cell) in common::cell_variants().into_iter().skip(cell::registry().len()) {
        check(&name, &cell, "nvidia", &case(4, 2));
    }
}

/// A vendor with few registers, whose workgroups read most weights again at every step.
#[test]
fn weights_that_do_not_stay_are_read_again() {
    for name in ["rnn_tanh", "gru_reset_before"] {
        let cell = cell::by_name(name).unwrap();
        check(name, &cell, "other", &Case::new(RnnConfig::new(3, 72), 3, 1));
    }
}

#[test]
fn halves() {
    let case = Case { dtype: Dtype::F16, ..case(12, 2) };
    check("gru", &cell::by_name("gru").unwrap(), "nvidia", &case);
}
