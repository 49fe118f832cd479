//! What real devices do: they are lost, run out of memory, take too long, and lack features. Nothing of it panics, hangs, or
//! reaches the app's own error handler.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::uniform;
use tidegate::check::Case;
use tidegate::train::{Batch, Checkpoint, Inputs, Layout, Objective, Optimizer, Targets, TrainConfig, Trainer, Weights};
use tidegate::{
    Context, Error, ForwardBuffers, Lstm, Mode, Output, OutputGradients, Params, Result, Rnn, RnnConfig, SeqShape, Sequence,
    Session, Strategy, cell,
};
use wgpu::{BufferUsages, Features};

const SHAPE: SeqShape = SeqShape { seq_len: 4, batch_size: 2 };
const CLASSES: usize = 3;

/// A borrowed device whose app counts what reaches its handlers.
struct App {
    ctx: Context,
    errors: Arc<AtomicUsize>,
    losses: Arc<AtomicUsize>,
}

impl App {
    fn new() -> Self {
        Self::on(&common::adapter())
    }

    fn on(adapter: &wgpu::Adapter) -> Self {
        let descriptor = wgpu::DeviceDescriptor { required_limits: Context::wanted_limits(adapter), ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let [errors, losses] = [0; 2].map(|_| Arc::new(AtomicUsize::new(0)));
        let [counted, lost] = [errors.clone(), losses.clone()];
        device.on_uncaptured_error(Arc::new(move |error| {
            println!("uncaptured: {error}");
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        device.set_device_lost_callback(move |_, _| {
            lost.fetch_add(1, Ordering::Relaxed);
        });
        Self { ctx: Context::from_device(adapter, &device, &queue).unwrap(), errors, losses }
    }

    fn check_untouched(&self) {
        assert_eq!(self.errors.load(Ordering::Relaxed), 0, "errors that reached the app's handler");
    }
}

/// One of everything that a device can be lost under.
struct Work {
    ctx: Context,
    rnn: Rnn,
    params: tidegate::DeviceBuffer,
    session: Session,
    trainer: Trainer,
    input: Vec<f32>,
}

impl Work {
    fn new(ctx: &Context) -> Self {
        let rnn = Rnn::new(ctx, Lstm::default(), RnnConfig::new(3, 5)).unwrap();
        let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
        let session = rnn.session(&params, SHAPE).unwrap();
        let trainer = trainer(&rnn);
        let input = values(1, SHAPE.rows() * 3);
        let mut work = Self { ctx: ctx.clone(), rnn, params, session, trainer, input };
        work.forward().unwrap();
        work.session.advance_blocking(&work.input).unwrap();
        train(&mut work.trainer, 0..1).unwrap();
        work
    }

    fn forward(&self) -> Result<Output> {
        self.rnn.forward_blocking(&self.params, &Sequence::new(SHAPE, &self.input))
    }

    /// The outcome of every kind of call, by name.
    fn calls(&mut self) -> Vec<(&'static str, Result<()>)> {
        let Self { ctx, rnn, params, session, trainer, input } = self;
        let params = &*params;
        let seq = Sequence::new(SHAPE, input);
        let d_output = [0.5; 4 * 2 * 5];
        let d = OutputGradients { d_output: &d_output, d_final_state: None };
        let host = Params::uniform(rnn.param_layout(), 2);
        let weights = Weights::init(trainer.layout(), 9);
        let labels = [1; 8];
        vec![
            ("upload", ctx.upload("values", &[1.0f32]).map(drop)),
            ("download[0]", pollster::block_on(ctx.download([params])).map(drop)),
            ("wait", ctx.wait()),
            ("upload of parameters", rnn.upload(&host).map(drop)),
            ("write_params", rnn.write_params(params, &host)),
            ("forward", rnn.forward_blocking(params, &seq).map(drop)),
            ("forward again", rnn.forward_blocking(params, &seq).map(drop)),
            ("backward", rnn.backward_blocking(params, &seq, &d).map(drop)),
            ("a new session", rnn.session(params, SHAPE).map(drop)),
            ("advance", session.advance_blocking(input).map(drop)),
            ("advance again", session.advance_blocking(input).map(drop)),
            ("set_state", session.set_state(&[0.0; 2 * 2 * 5])),
            ("tune", pollster::block_on(rnn.tune(SHAPE, Mode::Training)).map(drop)),
            ("write_batch", trainer.write_batch(&Batch::new(Inputs::Features(input), Targets::Labels(&labels)))),
            ("step", trainer.step(0.1)),
            ("losses", trainer.losses_blocking().map(drop)),
            ("evaluate", trainer.evaluate_blocking().map(drop)),
            ("weights", trainer.weights_blocking().map(drop)),
            ("set_weights", trainer.set_weights(&weights)),
            ("checkpoint", trainer.checkpoint_blocking("").map(drop)),
            ("a new trainer", Trainer::new(rnn, trainer.config(), Optimizer::adam(), &weights).map(drop)),
        ]
    }
}

fn values(seed: u64, n: usize) -> Vec<f32> {
    uniform(seed, n, 1.0).into_iter().map(|x| x as f32).collect()
}

fn trainer(rnn: &Rnn) -> Trainer {
    let config = TrainConfig::new(SHAPE, Objective::CrossEntropy, CLASSES);
    let weights = Weights::init(&Layout::new(rnn, &config).unwrap(), 1);
    Trainer::new(rnn, &config, Optimizer::adam(), &weights).unwrap()
}

/// Steps of these numbers, each on data of its own.
fn train(trainer: &mut Trainer, steps: std::ops::Range<u64>) -> Result<Vec<f32>> {
    for step in steps {
        let input = values(step, SHAPE.rows() * 3);
        let labels: Vec<u32> = input.chunks(3).map(|x| u32::from(x[0] > 0.0) + u32::from(x[1] > 0.0)).collect();
        trainer.write_batch(&Batch::new(Inputs::Features(&input), Targets::Labels(&labels)))?;
        trainer.step(0.01)?;
    }
    trainer.losses_blocking()
}

#[track_caller]
fn all_lost(calls: Vec<(&str, Result<()>)>) {
    for (call, result) in calls {
        assert!(matches!(result, Err(Error::DeviceLost)), "{call}: {result:?}");
    }
}

#[test]
fn a_lost_device_is_an_error_of_every_call() {
    let own = common::own_context();
    let mut work = Work::new(&own);
    own.device().destroy();
    all_lost(work.calls());

    let app = App::new();
    let mut work = Work::new(&app.ctx);
    for (call, result) in work.calls() {
        result.unwrap_or_else(|e| panic!("{call}: {e}"));
    }
    app.ctx.device().destroy();
    all_lost(work.calls());
    app.check_untouched();
    assert_eq!(app.losses.load(Ordering::Relaxed), 1, "the app's callback");
    let ctx = Context::from_device(&common::adapter(), app.ctx.device(), app.ctx.queue());
    assert!(matches!(ctx, Err(Error::DeviceLost)), "{ctx:?}");
}

/// Recording needs no device that lives; what was recorded is the app's to submit.
#[test]
fn encoding_on_a_lost_device_does_not_panic() {
    let app = App::new();
    let Work { rnn, params, mut session, .. } = Work::new(&app.ctx);
    let plan = rnn.plan(SHAPE, Mode::Inference).unwrap();
    let sizes = plan.sizes();
    let usage = BufferUsages::STORAGE;
    let [input, output, workspace] =
        [sizes.input, sizes.output, sizes.workspace].map(|size| app.ctx.create_buffer("test", size, usage).unwrap());
    let whole = wgpu::Buffer::as_entire_buffer_binding;
    let buffers = ForwardBuffers::new(whole(&params), whole(&input), whole(&output), whole(&workspace));
    let forward = plan.bind_forward(&buffers).unwrap();
    app.ctx.device().destroy();
    let mut encoder = app.ctx.device().create_command_encoder(&Default::default());
    forward.encode(&mut encoder);
    session.encode(&mut encoder);
    app.check_untouched();
    let bound = plan.bind_forward(&buffers);
    assert!(matches!(bound, Err(Error::DeviceLost)), "{bound:?}");
}

/// While another thread uses it, in the middle of whatever that does.
#[test]
fn a_device_may_be_lost_at_any_time() {
    for delay in [0, 1, 3, 10, 30] {
        let app = App::new();
        let mut work = Work::new(&app.ctx);
        let before = work.forward().unwrap();
        let start = Instant::now();
        let user = std::thread::spawn(move || {
            loop {
                match work.forward() {
                    Ok(output) => assert_eq!(output, before),
                    Err(error) => break error,
                }
                if let Err(error) = train(&mut work.trainer, 0..2) {
                    break error;
                }
            }
        });
        std::thread::sleep(Duration::from_millis(delay));
        app.ctx.device().destroy();
        let error = user.join().expect("no panic");
        assert!(matches!(error, Error::DeviceLost), "after {delay} ms: {error:?}");
        assert!(start.elapsed() < Duration::from_secs(30));
        app.check_untouched();
    }
}

/// From the last checkpoint and the weights on the host, to the same bits.
#[test]
fn after_a_loss_a_new_context_goes_on() {
    let lost = common::own_context();
    let mut work = Work::new(&lost);
    train(&mut work.trainer, 1..4).unwrap();
    let checkpoint = work.trainer.checkpoint_blocking("").unwrap();
    let expected = train(&mut work.trainer, 4..7).unwrap();
    let output = work.forward().unwrap();
    let params = Params::uniform(work.rnn.param_layout(), 1);
    lost.device().destroy();
    assert!(matches!(train(&mut work.trainer, 7..8), Err(Error::DeviceLost)));

    let ctx = common::own_context();
    let rnn = Rnn::new(&ctx, Lstm::default(), RnnConfig::new(3, 5)).unwrap();
    let mut again = trainer(&rnn);
    again.restore(&checkpoint).unwrap();
    assert_eq!((again.steps(), Checkpoint::open(&checkpoint).unwrap().step()), (4, 4));
    assert_eq!(train(&mut again, 4..7).unwrap(), expected);
    let uploaded = rnn.upload(&params).unwrap();
    assert_eq!(rnn.forward_blocking(&uploaded, &Sequence::new(SHAPE, &work.input)).unwrap(), output);
}

/// An adapter that refuses buffers once this percentage of its memory is in use.
fn adapter_with_budget(percent: u8) -> wgpu::Adapter {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.memory_budget_thresholds.for_resource_creation = Some(percent);
    let instance = wgpu::Instance::new(descriptor);
    pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap()
}

/// With a budget that the machine's use of memory leaves little of.
#[test]
fn out_of_memory_is_an_error_and_what_is_there_goes_on() {
    let is_full = |result: Result<()>| matches!(&result, Err(Error::Device(text)) if text.to_lowercase().contains("memory"));
    let open = |percent| {
        let adapter = adapter_with_budget(percent);
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default())).ok()?;
        Context::from_device(&adapter, &device, &queue).ok()
    };
    assert!(open(0).is_none(), "this adapter tells no budget: nothing is tested here");
    // wgpu's own buffers and ours fit from here on; two percent more are for what other processes do meanwhile.
    let least = (1..=98).find(|&percent| open(percent).is_some()).expect("some memory");
    let app = App::on(&adapter_with_budget(least + 2));
    let mut work = Work::new(&app.ctx);
    let before = work.forward().unwrap();

    let large = app.ctx.device().limits().max_buffer_size;
    let hoard: Vec<_> =
        (0..64).map(|_| app.ctx.create_buffer("large", large, BufferUsages::STORAGE)).take_while(Result::is_ok).collect();
    println!("{least} % were in use; {} buffers of {large} bytes fit", hoard.len());
    assert!(is_full(app.ctx.create_buffer("large", large, BufferUsages::STORAGE).map(drop)));
    drop(hoard);
    app.ctx.wait().unwrap();
    // What is there goes on, and so does what needs little.
    assert_eq!(work.forward().unwrap(), before);
    work.session.advance_blocking(&work.input).unwrap();
    train(&mut work.trainer, 1..3).unwrap();
    app.check_untouched();
    assert_eq!(app.losses.load(Ordering::Relaxed), 0);
}

/// A wait ends with an error, and the stream goes on when the GPU is done.
#[test]
fn work_that_takes_too_long_is_an_error() {
    let app = App::new();
    let patient = app.ctx.clone();
    let hasty = app.ctx.clone().with_timeout(Duration::from_millis(1));
    // A GPU does 2000 steps within the millisecond.
    let seq_len = if patient.is_software() { 2000 } else { 40_000 };
    let shape = SeqShape { seq_len, batch_size: 4 };
    let input = values(1, shape.rows() * 64);
    let rnn = |ctx: &Context| Rnn::new(ctx, Lstm::default(), RnnConfig::new(64, 64)).unwrap();
    let params = rnn(&patient).upload(&Params::uniform(rnn(&patient).param_layout(), 1)).unwrap();
    let mut expected = rnn(&patient).session(&params, shape).unwrap();
    let mut session = rnn(&hasty).session(&params, shape).unwrap();
    for _ in 0..2 {
        expected.advance_blocking(&input).unwrap();
        let late = session.advance_blocking(&input);
        assert!(matches!(late, Err(Error::Poll(wgpu::PollError::Timeout))), "{:?}", late.map(drop));
        patient.wait().unwrap();
    }
    let states = pollster::block_on(patient.download([expected.state(), session.state()])).unwrap();
    assert_eq!(states[0], states[1]);
    app.check_untouched();
}

/// Each optional feature missing on its own, and all of them: another path, the same results.
#[test]
fn no_feature_is_needed() {
    let adapter = common::adapter();
    let wanted = Context::wanted_features(&adapter);
    let cases = wanted.iter().map(|missing| (format!("{missing:?}"), wanted - missing));
    for (missing, required_features) in cases.chain([("everything".into(), Features::empty())]) {
        let required_limits = wgpu::Limits {
            max_immediate_size: if required_features.contains(Features::IMMEDIATES) { 16 } else { 0 },
            ..Context::wanted_limits(&adapter)
        };
        let descriptor = wgpu::DeviceDescriptor { required_features, required_limits, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let ctx = Context::from_device(&adapter, &device, &queue).unwrap();
        let cell = cell::by_name("gru_reset_before").unwrap();
        for strategy in Strategy::all(&ctx) {
            let case = Case::new(RnnConfig::new(3, 17), 5, 3);
            let outcome = pollster::block_on(case.check_gpu(&ctx, &cell, strategy));
            outcome.unwrap_or_else(|e| panic!("without {missing}, {}: {e}", strategy.name()));
        }
    }
    println!("{wanted:?}");
}

/// Two contexts of one device take turns with their persistent dispatches, and know the same of it.
#[test]
fn contexts_of_a_device_can_share() {
    let app = App::new();
    let second = Context::from_device_sharing(&app.ctx, &common::adapter(), app.ctx.device(), app.ctx.queue()).unwrap();
    let found = pollster::block_on(app.ctx.measure_residency()).unwrap();
    assert!(found >= 1);
    assert_eq!(pollster::block_on(second.measure_residency()).unwrap(), found);
    let shape = SeqShape { seq_len: 6, batch_size: 2 };
    let outputs = [&app.ctx, &second].map(|ctx| {
        let rnn = Rnn::new(ctx, Lstm::default(), RnnConfig::new(3, 9)).unwrap().with_strategy(Strategy::Persistent);
        let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
        let input = values(2, shape.rows() * 3);
        rnn.forward_blocking(&params, &Sequence::new(shape, &input)).unwrap().output
    });
    assert_eq!(outputs[0], outputs[1]);

    let other = App::new();
    let error = Context::from_device_sharing(&app.ctx, &common::adapter(), other.ctx.device(), other.ctx.queue()).unwrap_err();
    assert!(error.to_string().contains("from_device_sharing"), "{error}");
    app.check_untouched();
    other.check_untouched();
}

/// Of one instance, of two whose devices have the same number, and of one device.
#[test]
fn a_buffer_of_another_device_is_refused_by_both_names() {
    let apps = [App::new(), App::new()];
    let of_a_new_instance = || {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
        pollster::block_on(instance.request_adapter(&Default::default())).unwrap()
    };
    let instances = [App::on(&of_a_new_instance()), App::on(&of_a_new_instance())];
    assert_eq!(instances[0].ctx.device(), instances[1].ctx.device(), "first devices of their instances");
    let network = |app: &App| {
        let rnn = Rnn::new(&app.ctx, Lstm::default(), RnnConfig::new(3, 5)).unwrap().with_strategy(Strategy::Stepwise);
        let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
        (rnn, params)
    };
    let input = values(1, SHAPE.rows() * 3);
    let seq = Sequence::new(SHAPE, &input);
    for [ours, theirs] in [&apps, &instances] {
        let ((rnn, own), (their_rnn, params)) = (network(ours), network(theirs));
        let session = their_rnn.session(&params, SHAPE).unwrap();
        assert!(own.is_of(&ours.ctx) && !own.is_of(&theirs.ctx) && !params.is_of(&ours.ctx));
        let plan = rnn.plan(SHAPE, Mode::Inference).unwrap();
        let made = |size| ours.ctx.create_buffer("made", size, BufferUsages::STORAGE).unwrap();
        let (output, workspace) = (made(plan.sizes().output), made(plan.sizes().workspace));
        let whole = wgpu::Buffer::as_entire_buffer_binding;
        let buffers = ForwardBuffers::new(whole(&own), whole(session.input()), whole(&output), whole(&workspace));
        for (name, result) in [
            ("params", rnn.forward_blocking(&params, &seq).map(drop)),
            ("params", rnn.session(&params, SHAPE).map(drop)),
            ("download[0]", pollster::block_on(ours.ctx.download([&params])).map(drop)),
            ("download[0]", pollster::block_on(ours.ctx.download([session.state()])).map(drop)),
            ("to write to", rnn.write_params(&params, &Params::uniform(rnn.param_layout(), 2))),
            ("input", plan.bind_forward(&buffers).map(drop)),
        ] {
            match &result {
                Err(Error::OtherContext { name: found, theirs, ours }) => assert!(found == name && theirs != ours, "{result:?}"),
                _ => panic!("{name}: {result:?}"),
            }
            let text = result.unwrap_err().to_string();
            assert_eq!(text.matches("context ").count(), 2, "{text}");
        }
        their_rnn.forward_blocking(&params, &seq).unwrap();
        ours.check_untouched();
        theirs.check_untouched();
    }

    // A second context of the same device may have them, and a raw buffer of the app's tells nothing.
    let second = Context::from_device(&common::adapter(), apps[0].ctx.device(), apps[0].ctx.queue()).unwrap();
    let ((first, params), (other, _)) = (network(&apps[0]), network(&apps[1]));
    let rnn = Rnn::new(&second, Lstm::default(), RnnConfig::new(3, 5)).unwrap().with_strategy(Strategy::Stepwise);
    let raw = wgpu::Buffer::clone(&params);
    let truth = first.forward_blocking(&params, &seq).unwrap();
    for params in [&*params, &raw] {
        assert_eq!(rnn.forward_blocking(params, &seq).unwrap(), truth);
    }
    // Of one instance wgpu tells it.
    let error = other.forward_blocking(&raw, &seq).unwrap_err();
    assert!(matches!(error, Error::Device(_)), "{error:?}");
    apps.iter().for_each(App::check_untouched);
}
