//! What spares an app work: buffers that the plan allocates, states by name, text for a person.

use tidegate::{Lstm, Mode, OutputGradients, Params, Rnn, RnnConfig, SeqShape, Sequence};

use crate::{SHAPE, bits, common, encoder, values};

/// As little as an app has to bring: buffers that the plan allocates, the app's own by reference, states by name.
#[test]
fn a_plan_allocates_what_the_app_has_not() {
    let ctx = common::context();
    let config = RnnConfig::new(3, 5).with_bidirectional(true);
    let rnn = Rnn::new(&ctx, Lstm::default(), config.clone()).unwrap();
    let host = Params::uniform(rnn.param_layout(), 1);
    let (params, x) = (rnn.upload(&host).unwrap(), values(2, 6 * 3 * 3));
    let (input, shape) = (ctx.upload("input", &x).unwrap(), SeqShape::new(6, 3));
    let plan = rnn.plan(shape, Mode::Training).unwrap();
    let (made, gradients) = (plan.allocate().unwrap(), plan.allocate_gradients().unwrap());
    let ones = vec![1.0; 6 * 3 * 10];
    let d_output = ctx.upload("d_output", &ones).unwrap();
    let forward = plan.bind_forward(&made.forward(&params, &input)).unwrap();
    let backward = plan.bind_backward(&gradients.backward(made.forward(&params, &input), &d_output)).unwrap();
    // What is bound keeps its buffers.
    let (y, last, d_params, d_input) =
        (made.output.clone(), made.final_state.clone(), gradients.d_params.clone(), gradients.d_input.clone());
    drop((made, gradients));
    let mut encoder = encoder(&ctx);
    forward.encode(&mut encoder);
    backward.encode(&mut encoder);
    ctx.queue().submit([encoder.finish()]);
    let (seq, d) = (Sequence::new(shape, &x), OutputGradients { d_output: &ones, d_final_state: None });
    let (output, expected) = rnn.backward_blocking(&params, &seq, &d).unwrap();
    let [y, last, d_params, d_input] = ctx.download_blocking([&y, &last, &d_params, &d_input]).unwrap();
    assert_eq!((bits(&y), bits(&last)), (bits(&output.output), bits(&output.final_state)));
    assert_eq!((bits(&d_params), bits(&d_input)), (bits(&expected.d_params), bits(&expected.d_input)));

    // The output's last step is the forward direction's h, its first one the backward direction's.
    let (h, c) = (rnn.state_of("h", &last).unwrap(), rnn.state_of("c", &last).unwrap());
    assert_eq!((h.len(), c.len()), (2 * 3 * 5, 2 * 3 * 5));
    assert_eq!((&h[..5], &h[15..20]), (&y[5 * 3 * 10..][..5], &y[5..10]));
    assert_ne!(h, c);
    let error = rnn.state_of("m", &last).unwrap_err().to_string();
    assert!(error.contains("`m`") && error.contains("h, c"), "{error}");
    let error = rnn.state_of("h", &last[1..]).unwrap_err().to_string();
    assert!(error.contains("59 values are no [2, 2, B, 5]"), "{error}");

    // A projected h is narrower than c.
    let rnn = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(3, 8).with_proj_size(4)).unwrap();
    let block: Vec<usize> = (0..4 * (4 + 8)).collect();
    assert_eq!(rnn.state_of("h", &block).unwrap(), &block[..16]);
    assert_eq!(rnn.state_of("c", &block).unwrap(), &block[16..]);
}

/// `dbg!` of what an app holds is read by a person.
#[test]
fn what_debug_prints_is_short() {
    let ctx = common::context();
    let rnn = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(3, 5)).unwrap();
    let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
    let plan = rnn.plan(SHAPE, Mode::Inference).unwrap();
    let (made, input) = (plan.allocate().unwrap(), ctx.upload("input", &[0f32; 6 * 3 * 3]).unwrap());
    let forward = plan.bind_forward(&made.forward(&params, &input)).unwrap();
    let session = rnn.session(&params, SeqShape::new(1, 3)).unwrap();
    let shown = [("lstm", format!("{rnn:?}")), ("lstm", format!("{plan:?}")), ("dispatches", format!("{forward:?}"))];
    for (name, text) in shown.into_iter().chain([("Context", format!("{ctx:?}")), ("Session", format!("{session:?}"))]) {
        assert!(text.contains(name) && text.len() < 400, "{} characters: {text}", text.len());
    }
}
