//! Each piece alone, on buffers of the test's own, against float64. What is written is NaN beforehand.

use tidegate::Context;
use tidegate::train::{
    Clip, ClipBuffers, Clipping, Embedding, EmbeddingBackward, EmbeddingForward, EmbeddingShape, IGNORE, Linear, LinearBackward,
    LinearForward, LinearShape, Loss, LossBuffers, LossShape, Objective, Optimizer, Pass, Update, UpdateBuffers,
};
use tidegate::{DeviceBuffer, Error, Result};
use wgpu::{Buffer, BufferBinding};

use crate::common::{self, uniform};
use crate::{close, reference};

fn whole(buffer: &Buffer) -> BufferBinding<'_> {
    buffer.as_entire_buffer_binding()
}

fn poisoned(ctx: &Context, bytes: u64) -> DeviceBuffer {
    ctx.upload("poisoned", &vec![u32::MAX; (bytes / 4) as usize]).unwrap()
}

/// Values that f32 holds, on both sides.
fn values(ctx: &Context, seed: u64, n: usize, bound: f64) -> (Vec<f64>, DeviceBuffer) {
    let narrow: Vec<f32> = uniform(seed, n, bound).into_iter().map(|x| x as f32).collect();
    (narrow.iter().copied().map(f64::from).collect(), ctx.upload("values", &narrow).unwrap())
}

fn tokens(ctx: &Context, seed: u64, n: usize, below: u32) -> (Vec<u32>, DeviceBuffer) {
    let tokens: Vec<u32> = uniform(seed, n, 1.0).into_iter().map(|x| ((x + 1.0) / 2.0 * f64::from(below)) as u32).collect();
    let buffer = ctx.upload("tokens", &tokens).unwrap();
    (tokens, buffer)
}

/// Records a pass twice, so that nothing may depend on what was there before, and reads a buffer back.
fn run(ctx: &Context, pass: &Pass, result: &Buffer) -> Vec<f32> {
    let mut encoder = ctx.device().create_command_encoder(&Default::default());
    pass.encode(&mut encoder);
    pass.encode(&mut encoder);
    ctx.queue().submit([encoder.finish()]);
    read(ctx, result)
}

fn read(ctx: &Context, buffer: &Buffer) -> Vec<f32> {
    let [values] = pollster::block_on(ctx.download([buffer])).unwrap();
    values
}

#[test]
fn embedding() {
    let ctx = common::context();
    for (rows, vocabulary, features) in [(1, 1, 1), (77, 13, 5), (300, 7, 17), (5, 1000, 3)] {
        let piece = Embedding::new(&ctx, EmbeddingShape { rows, vocabulary, features }).unwrap();
        let sizes = piece.sizes();
        let (table, params) = values(&ctx, 1, vocabulary * features, 1.0);
        // Some tokens are beyond the vocabulary.
        let (tokens, token_buffer) = tokens(&ctx, 2, rows, vocabulary as u32 + 2);
        let output = poisoned(&ctx, sizes.output);
        let buffers = EmbeddingForward { params: whole(&params), tokens: whole(&token_buffer), output: whole(&output) };
        let found = run(&ctx, &piece.bind_forward(&buffers).unwrap(), &output);
        close("output", &reference::embedding(&table, &tokens, features), &found, 0.0);

        let (d, d_output) = values(&ctx, 3, rows * features, 1.0);
        let (d_params, workspace) = (poisoned(&ctx, sizes.params), poisoned(&ctx, sizes.workspace));
        let buffers = EmbeddingBackward {
            tokens: whole(&token_buffer),
            d_output: whole(&d_output),
            d_params: whole(&d_params),
            workspace: whole(&workspace),
        };
        let found = run(&ctx, &piece.bind_backward(&buffers).unwrap(), &d_params);
        close("d_params", &reference::embedding_backward(table.len(), &tokens, &d, features), &found, 1e-6);
    }
}

#[test]
fn linear() {
    let ctx = common::context();
    for (rows, in_features, out_features, bias) in
        [(1, 1, 1, true), (77, 13, 5, true), (300, 17, 65, true), (129, 33, 1, false), (3, 1, 70, true)]
    {
        let piece = Linear::new(&ctx, LinearShape { rows, in_features, out_features, bias }).unwrap();
        let sizes = piece.sizes();
        let (weights, params) = values(&ctx, 1, out_features * (in_features + usize::from(bias)), 1.0);
        let (x, input) = values(&ctx, 2, rows * in_features, 1.0);
        let output = poisoned(&ctx, sizes.output);
        let buffers = LinearForward { params: whole(&params), input: whole(&input), output: whole(&output) };
        let found = run(&ctx, &piece.bind_forward(&buffers).unwrap(), &output);
        close("output", &reference::linear(&weights, &x, in_features, out_features), &found, 1e-6);

        let (d, d_output) = values(&ctx, 3, rows * out_features, 1.0);
        let [d_params, d_input, workspace] = [sizes.params, sizes.input, sizes.workspace].map(|size| poisoned(&ctx, size));
        let (expected, d_x) = reference::linear_backward(&weights, &x, &d, in_features, out_features);
        for with_d_input in [false, true] {
            let buffers = LinearBackward {
                params: whole(&params),
                input: whole(&input),
                d_output: whole(&d_output),
                d_params: whole(&d_params),
                d_input: with_d_input.then(|| whole(&d_input)),
                workspace: whole(&workspace),
            };
            let found = run(&ctx, &piece.bind_backward(&buffers).unwrap(), &d_params);
            close("d_params", &expected, &found, 4e-6);
        }
        close("d_input", &d_x, &read(&ctx, &d_input), 2e-6);
    }
}

#[test]
fn losses() {
    let ctx = common::context();
    for (rows, features, spread) in [(1, 1, 1.0), (77, 3, 1.0), (300, 65, 60.0), (1000, 2, 1e4), (9, 700, 5.0)] {
        for objective in [Objective::CrossEntropy, Objective::MeanSquaredError] {
            for (masked, all_masked) in [(false, false), (true, false), (true, true)] {
                let name = format!("{objective:?} {rows} x {features}, masked {masked} {all_masked}");
                let piece = Loss::new(&ctx, objective, LossShape { rows, features }).unwrap();
                let sizes = piece.sizes();
                let (mut x, _) = values(&ctx, 1, rows * features, spread);
                let (y, value_buffer) = values(&ctx, 2, rows * features, spread);
                let (mut labels, _) = tokens(&ctx, 3, rows, features as u32);
                let mask: Vec<u32> = (0..rows as u32).map(|row| if all_masked { 0 } else { (row + 1) % 3 }).collect();
                let mut counted: Vec<bool> = mask.iter().map(|&word| !masked || word != 0).collect();
                if objective == Objective::CrossEntropy {
                    for row in (2..rows).step_by(5) {
                        labels[row] = if row % 2 == 0 { IGNORE } else { features as u32 };
                        counted[row] = false;
                    }
                }
                // What does not count may be anything.
                for row in (0..rows).filter(|&row| !counted[row]) {
                    x[row * features] = f64::NAN;
                }
                let (expected, d) = match objective {
                    Objective::CrossEntropy => reference::cross_entropy(&x, &labels, features, &counted),
                    Objective::MeanSquaredError => reference::mean_squared_error(&x, &y, features, &counted),
                };
                let narrow: Vec<f32> = x.iter().map(|&x| x as f32).collect();
                let prediction = ctx.upload("prediction", &narrow).unwrap();
                let label_buffer = ctx.upload("labels", &labels).unwrap();
                let targets = if objective == Objective::CrossEntropy { &label_buffer } else { &value_buffer };
                let mask = ctx.upload("mask", &mask).unwrap();
                let [d_prediction, loss, workspace] =
                    [sizes.prediction, sizes.loss, sizes.workspace].map(|size| poisoned(&ctx, size));
                let buffers = LossBuffers {
                    prediction: whole(&prediction),
                    targets: whole(targets),
                    mask: masked.then(|| whole(&mask)),
                    d_prediction: whole(&d_prediction),
                    loss: whole(&loss),
                    workspace: whole(&workspace),
                };
                let found = run(&ctx, &piece.bind(&buffers).unwrap(), &loss);
                let count = counted.iter().filter(|&&counted| counted).count();
                close(&name, &[expected, count as f64], &found, 1e-6);
                close(&name, &d, &read(&ctx, &d_prediction), 2e-6);
            }
        }
    }
}

#[test]
fn clipping() {
    let ctx = common::context();
    for len in [1, 255, 5000, 400_001] {
        for clip in [Clip::Norm(0.5), Clip::Norm(1e6), Clip::Value(0.3)] {
            let piece = Clipping::new(&ctx, clip, len).unwrap();
            let sizes = piece.sizes();
            let (mut expected, d_params) = values(&ctx, 1, len, 1.0);
            let [norm, workspace] = [sizes.norm, sizes.workspace].map(|size| poisoned(&ctx, size));
            let buffers = ClipBuffers { d_params: whole(&d_params), norm: whole(&norm), workspace: whole(&workspace) };
            let mut encoder = ctx.device().create_command_encoder(&Default::default());
            piece.bind(&buffers).unwrap().encode(&mut encoder);
            ctx.queue().submit([encoder.finish()]);
            let before = reference::clip(clip, &mut expected);
            close("gradients", &expected, &read(&ctx, &d_params), 1e-6);
            if let Clip::Norm(most) = clip {
                let scale = (f64::from(most) / (before + 1e-6)).min(1.0);
                close("norm", &[before, scale], &read(&ctx, &norm), 1e-6);
            }
        }
    }
}

/// Every option of every optimizer.
fn optimizers() -> Vec<Optimizer> {
    let (betas, eps) = ([0.8, 0.99], 1e-6);
    vec![
        Optimizer::sgd(0.0),
        Optimizer::sgd(0.9),
        Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.1 },
        Optimizer::Sgd { momentum: 0.7, nesterov: true, weight_decay: 0.1 },
        Optimizer::adam(),
        Optimizer::Adam { betas, eps, weight_decay: 0.1 },
        Optimizer::adamw(),
        Optimizer::AdamW { betas, eps, weight_decay: 0.3 },
    ]
}

#[test]
fn updates() {
    let ctx = common::context();
    for optimizer in optimizers() {
        for len in [1, 1003] {
            let piece = Update::new(&ctx, optimizer, len).unwrap();
            let sizes = piece.sizes();
            let (mut expected, params) = values(&ctx, 1, len, 1.0);
            let mut moments = [vec![0.0; len], vec![0.0; len]];
            let kept = [sizes.first_moment, sizes.second_moment]
                .map(|size| (size > 0).then(|| ctx.upload("moment", &vec![0f32; len]).unwrap()));
            let hyper = poisoned(&ctx, sizes.hyper);
            for step in 1..=4 {
                let (gradient, d_params) = values(&ctx, 10 + step, len, 0.1);
                let buffers = UpdateBuffers {
                    params: whole(&params),
                    d_params: whole(&d_params),
                    first_moment: kept[0].as_deref().map(whole),
                    second_moment: kept[1].as_deref().map(whole),
                    hyper: whole(&hyper),
                };
                let rate = 0.01 * step as f64;
                ctx.queue().write_buffer(&hyper, 0, bytemuck::cast_slice(&optimizer.hyper(rate, step)));
                let mut encoder = ctx.device().create_command_encoder(&Default::default());
                piece.bind(&buffers).unwrap().encode(&mut encoder);
                ctx.queue().submit([encoder.finish()]);
                reference::update(&optimizer, rate, step as i32, &mut expected, &gradient, &mut moments);
            }
            let name = format!("{optimizer:?}");
            close(&name, &expected, &read(&ctx, &params), 1e-6);
            for (truth, moment) in moments.iter().zip(kept.iter().flatten()) {
                close(&name, truth, &read(&ctx, moment), 1e-6);
            }
        }
    }
}

fn message<T>(result: Result<T>) -> String {
    result.err().map_or_else(|| "no error".into(), |error| error.to_string())
}

#[test]
fn what_means_nothing_is_refused_by_name() {
    let ctx = common::context();
    let shape = EmbeddingShape { rows: 4, vocabulary: 0, features: 3 };
    assert_eq!(message(Embedding::new(&ctx, shape)), "`vocabulary`: 0 is outside 1..=2147483648");
    let shape = LinearShape { rows: 1 << 20, in_features: 1 << 20, out_features: 1, bias: true };
    assert!(message(Linear::new(&ctx, shape)).contains("rows·in_features: needs 1099511627776, has 2147483648"));
    for clip in [Clip::Norm(0.0), Clip::Value(f32::NAN), Clip::Norm(f32::INFINITY)] {
        assert!(message(Clipping::new(&ctx, clip, 3)).contains("must be positive and finite"), "{clip:?}");
    }
    let adam = |betas, eps| Optimizer::Adam { betas, eps, weight_decay: 0.0 };
    for (optimizer, what) in [
        (adam([1.0, 0.9], 1e-8), "`betas[0]` is 1"),
        (adam([0.9, -0.1], 1e-8), "`betas[1]` is -0.1"),
        (adam([0.9, 0.9], 0.0), "`eps` is 0"),
        (Optimizer::sgd(f64::NAN), "`momentum` is NaN"),
        (Optimizer::sgd(f64::INFINITY), "`momentum` is inf, must be at least 0 and below 1"),
        (Optimizer::sgd(2.0), "`momentum` is 2, must be at least 0 and below 1"),
        (Optimizer::sgd(1.0), "`momentum` is 1, must be at least 0 and below 1"),
        (Optimizer::Sgd { momentum: 0.0, nesterov: true, weight_decay: 0.0 }, "`nesterov` needs a momentum"),
    ] {
        let error = message(Update::new(&ctx, optimizer, 3));
        assert!(error.contains(what), "{error}");
    }

    let piece = Update::new(&ctx, Optimizer::adam(), 100).unwrap();
    let [full, short] = [400, 396].map(|size| poisoned(&ctx, size));
    let hyper = poisoned(&ctx, 16);
    let buffers = UpdateBuffers {
        params: whole(&full),
        d_params: whole(&short),
        first_moment: Some(whole(&full)),
        second_moment: None,
        hyper: whole(&hyper),
    };
    let bind = |buffers: &UpdateBuffers<'_>| piece.bind(buffers).unwrap_err();
    assert!(matches!(bind(&buffers), Error::BufferSize { name: "d_params", needed: 400, actual: 396 }));
    let gradients = poisoned(&ctx, 400);
    let buffers = UpdateBuffers { d_params: whole(&gradients), ..buffers };
    let error = bind(&buffers);
    assert!(matches!(error, Error::Aliasing { .. }) && error.to_string().contains("is written and overlaps `"), "{error}");
    // Apart, but in one buffer.
    let one = poisoned(&ctx, 1024);
    let part = |offset| BufferBinding { buffer: &one, offset, size: std::num::NonZero::new(400) };
    let [first, second] = [400; 2].map(|size| poisoned(&ctx, size));
    let (first_moment, second_moment) = (Some(whole(&first)), Some(whole(&second)));
    let error = bind(&UpdateBuffers { params: part(0), d_params: part(512), first_moment, second_moment, hyper: whole(&hyper) });
    assert!(matches!(error, Error::SameBuffer { written: "params", other: "d_params" }), "{error}");
    assert!(error.to_string().contains("`params` and `d_params` are parts of one wgpu buffer"), "{error}");
    let first = poisoned(&ctx, 400);
    let buffers = UpdateBuffers { first_moment: Some(whole(&first)), ..buffers };
    assert!(matches!(bind(&buffers), Error::BufferMissing { name: "second_moment", .. }));
    // What is missing, and for what.
    for (optimizer, what) in [
        (Optimizer::sgd(0.9), "SGD with a momentum keeps its `momentum_buffer`"),
        (Optimizer::adam(), "Adam keeps `exp_avg`"),
        (Optimizer::adamw(), "AdamW keeps `exp_avg`"),
    ] {
        let error =
            message(Update::new(&ctx, optimizer, 100).unwrap().bind(&UpdateBuffers { first_moment: None, ..buffers.clone() }));
        assert!(error.contains("first_moment") && error.contains(what), "{error}");
    }
}
