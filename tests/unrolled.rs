//! The kernels of strategies resident and stepwise that only GPUs have, on this adapter: made for NVIDIA's registers, and for those
//! of a vendor that has few, with the subgroups that there are.

mod common;

use std::sync::Arc;

use tidegate::check::Case;
use tidegate::{Cell, Dtype, ForwardBuffers, Mode, Rnn, RnnConfig, ScheduleOptions, SeqShape, Strategy, cell};

fn check(name: &str, cell: &Arc<dyn Cell>, vendor: &str, case: &Case) {
    let ctx = common::context();
    let case = Case { layout: Some(format!("vendor={vendor}")), ..case.clone() };
    for strategy in [Strategy::Resident, Strategy::Stepwise] {
        let outcome = pollster::block_on(case.check_gpu(&ctx, cell, strategy));
        outcome.unwrap_or_else(|e| panic!("{name} under {}: {e}\n{case:?}", strategy.name()));
    }
}

/// Both directions, two layers, and all steps in one dispatch, which takes what the call gives.
#[test]
fn whole_calls() {
    for name in ["rnn_tanh", "gru_reset_before"] {
        let case = case(5, 2);
        let config = case.config.clone().with_num_layers(2);
        check(name, &cell::by_name(name).unwrap(), "nvidia", &Case { dispatch_flops: None, config, ..case });
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

/// One step a dispatch with more weights than a thread asks for at its start, so that a loop reads the others.
#[test]
fn steps_of_many_units_read_their_weights_in_a_loop() {
    let ctx = common::context();
    let case = Case { layout: Some("vendor=other".into()), ..Case::new(RnnConfig::new(3, 697), 2, 1) };
    pollster::block_on(case.check_gpu(&ctx, &cell::by_name("gru").unwrap(), Strategy::Stepwise)).unwrap();
}

#[test]
fn halves() {
    let case = Case { dtype: Dtype::F16, ..case(12, 2) };
    check("gru", &cell::by_name("gru").unwrap(), "nvidia", &case);
}

/// The product of the input, then all steps: what the call gives is taken from its buffers.
#[test]
fn a_resident_layer_takes_two_dispatches() {
    let ctx = common::context();
    let shape = SeqShape { seq_len: 4, batch_size: 1 };
    for (flops, training, expected) in [(None, false, 2), (None, true, 2), (Some(1), false, 2 + 4)] {
        let config = RnnConfig::new(4, 4);
        let rnn = Rnn::new(&ctx, cell::by_name("rnn_tanh").unwrap(), config).unwrap().with_strategy(Strategy::Resident);
        let rnn = rnn.with_layout("vendor=nvidia").unwrap();
        let rnn = flops.map_or(rnn.clone(), |flops| rnn.with_schedule(ScheduleOptions::default().with_dispatch_flops(flops)));
        let plan = rnn.plan(shape, if training { Mode::Training } else { Mode::Inference }).unwrap();
        let sizes = plan.sizes();
        let buffer = |bytes: u64| ctx.upload("buffer", &vec![0f32; (bytes / 4).max(1) as usize]).unwrap();
        let all = [sizes.params, sizes.input, sizes.output, sizes.workspace, sizes.reserve, sizes.state].map(buffer);
        let [params, input, output, workspace, reserve, state] = all.each_ref().map(|b| b.as_entire_buffer_binding());
        let buffers = ForwardBuffers::new(params, input, output, workspace);
        let reserve = (sizes.reserve > 0).then_some(reserve);
        let buffers = ForwardBuffers { reserve, initial_state: Some(state.clone()), ..buffers };
        assert_eq!(plan.bind_forward(&buffers).unwrap().dispatches(), expected, "{flops:?}, training: {training}");
        if flops.is_none() && !training {
            // One buffer cannot be read and written by one dispatch: what it holds is brought into the workspace.
            let in_place = ForwardBuffers { final_state: Some(state), ..buffers };
            assert_eq!(plan.bind_forward(&in_place).unwrap().dispatches(), 3);
        }
    }
}
