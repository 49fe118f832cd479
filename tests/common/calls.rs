//! Calls of every kind on random shapes, each made by its number alone: the same number must give the same bits.

use std::hash::{DefaultHasher, Hash, Hasher};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tidegate::train::{Batch, Clip, Inputs, Layout, Objective, Optimizer, Targets, TrainConfig, Trainer, Weights};
use tidegate::{
    BackwardBuffers, Context, Direction, DropoutKey, ForwardBuffers, Mode, OutputGradients, Params, Plan, Rnn, RnnConfig,
    SeqShape, Sequence, Strategy, cell,
};
use wgpu::{Buffer, BufferUsages};

/// Bounds of T and B.
pub const MOST: SeqShape = SeqShape { seq_len: 24, batch_size: 24 };
const CLASSES: usize = 3;

/// Networks on one device, for any number of threads.
pub struct Networks {
    ctx: Context,
    networks: Vec<Network>,
}

struct Network {
    rnn: Rnn,
    params: tidegate::DeviceBuffer,
    /// A plan that all threads share, beside those that each makes for itself.
    shared: Plan,
}

/// What a call gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    pub strategy: Strategy,
    pub kind: Kind,
    /// Hash of all bits. None where strategy persistent was repaired, by sums in another order, or nobody can tell.
    pub digest: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A plan, forward and backward on buffers of the app's own.
    Planned,
    /// Host slices forward and backward.
    Host,
    /// A stream of chunks.
    Session,
    /// Steps of training.
    Trainer,
}

fn table() -> Vec<(&'static str, RnnConfig, Strategy)> {
    vec![
        ("lstm", RnnConfig::new(5, 24).with_num_layers(2).with_dropout(0.2), Strategy::Stepwise),
        ("gru_reset_before", RnnConfig::new(3, 17), Strategy::Batched),
        ("gru", RnnConfig::new(5, 33).with_bidirectional(true).with_batch_first(true), Strategy::Resident),
        ("lstm", RnnConfig::new(6, 40), Strategy::Persistent),
        ("rnn_tanh", RnnConfig::new(4, 8).with_num_layers(2), Strategy::Auto),
    ]
}

impl Networks {
    /// One network for each strategy that the device can run.
    pub fn new(ctx: &Context) -> Self {
        let able = |strategy| strategy == Strategy::Auto || Strategy::all(ctx).contains(&strategy);
        let network = |(name, config, strategy)| {
            let rnn = Rnn::new(ctx, cell::by_name(name).unwrap(), config).unwrap().with_strategy(strategy);
            let params = rnn.upload(&Params::uniform(rnn.param_layout(), 1)).unwrap();
            let shared = rnn.plan(SeqShape { seq_len: 6, batch_size: 3 }, Mode::Training).unwrap();
            Network { rnn, params, shared }
        };
        Self { ctx: ctx.clone(), networks: table().into_iter().filter(|(.., s)| able(*s)).map(network).collect() }
    }

    pub fn context(&self) -> &Context {
        &self.ctx
    }

    /// Every kind of call of every network at the corners of the range of shapes: compiles what any shape between them needs.
    pub fn warm_up(&self) {
        let corners = [1, 2, 5, MOST.batch_size];
        for network in &self.networks {
            for batch_size in corners {
                for seq_len in [1, MOST.seq_len] {
                    for kind in network.kinds() {
                        network.run(kind, SeqShape { seq_len, batch_size }, &mut ChaCha8Rng::seed_from_u64(1));
                    }
                }
            }
        }
    }

    /// The call of that number.
    pub fn call(&self, number: u64) -> Made {
        let mut rng = ChaCha8Rng::seed_from_u64(number);
        let network = &self.networks[rng.random_range(0..self.networks.len())];
        let kinds = network.kinds();
        let kind = kinds[rng.random_range(0..kinds.len())];
        let shape = SeqShape { seq_len: rng.random_range(1..=MOST.seq_len), batch_size: rng.random_range(1..=MOST.batch_size) };
        Made { strategy: network.shared.strategy(), kind, digest: network.run(kind, shape, &mut rng) }
    }
}

impl Network {
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Planned, Kind::Host, Kind::Trainer];
        kinds.extend((self.rnn.config().direction == Direction::Forward).then_some(Kind::Session));
        kinds
    }

    fn run(&self, kind: Kind, shape: SeqShape, rng: &mut ChaCha8Rng) -> Option<u64> {
        let made = match kind {
            Kind::Planned => return self.planned(shape, rng),
            Kind::Host => self.host(shape, rng),
            Kind::Session => self.session(shape, rng),
            Kind::Trainer => self.trainer(shape, rng),
        };
        (self.shared.strategy() != Strategy::Persistent).then_some(made)
    }

    fn planned(&self, shape: SeqShape, rng: &mut ChaCha8Rng) -> Option<u64> {
        let ctx = self.rnn.context();
        let own = rng.random_bool(0.5).then(|| self.rnn.plan(shape, Mode::Training).unwrap());
        let plan = own.as_ref().unwrap_or(&self.shared);
        let sizes = plan.sizes();
        let mut filled = |bytes: u64| ctx.upload("filled", &uniform(rng, (bytes / 4) as usize)).unwrap();
        let (input, d_output) = (filled(sizes.input), filled(sizes.output));
        let poisoned = |bytes: u64| ctx.upload("poisoned", &vec![u32::MAX; (bytes / 4) as usize]).unwrap();
        let [output, final_state, reserve, workspace, d_params] =
            [sizes.output, sizes.state, sizes.reserve, sizes.workspace, sizes.d_params].map(poisoned);
        let dropout_state = ctx.upload("dropout_state", &[7u32, 0, 0, 0]).unwrap();
        let status = ctx.create_buffer("status", sizes.status, BufferUsages::STORAGE | BufferUsages::COPY_SRC).unwrap();
        let whole = Buffer::as_entire_buffer_binding;
        let forward = ForwardBuffers {
            final_state: Some(whole(&final_state)),
            reserve: Some(whole(&reserve)),
            dropout_state: Some(whole(&dropout_state)),
            status: Some(whole(&status)),
            ..ForwardBuffers::new(whole(&self.params), whole(&input), whole(&output), whole(&workspace))
        };
        let backward = BackwardBuffers::new(forward.clone(), whole(&d_output), whole(&d_params));
        let mut encoder = ctx.device().create_command_encoder(&Default::default());
        plan.bind_forward(&forward).unwrap().encode(&mut encoder);
        plan.bind_backward(&backward).unwrap().encode(&mut encoder);
        ctx.queue().submit([encoder.finish()]);
        let made = pollster::block_on(ctx.download([&output, &final_state, &d_params, &status])).unwrap();
        let repairs = made[3][1].to_bits();
        (repairs == 0).then(|| digest(&made[..3]))
    }

    fn host(&self, shape: SeqShape, rng: &mut ChaCha8Rng) -> u64 {
        let config = self.rnn.config();
        let (input, d_output) =
            (uniform(rng, shape.rows() * config.input_size), uniform(rng, shape.rows() * config.output_size()));
        let lengths: Vec<u32> = (0..shape.batch_size).map(|_| rng.random_range(1..=shape.seq_len as u32)).collect();
        let reset: Vec<u32> = (0..shape.rows()).map(|_| rng.random_bool(0.2).into()).collect();
        let seq = Sequence::new(shape, &input).with_lengths(&lengths).with_reset(&reset);
        let seq = seq.with_dropout(DropoutKey { seed: rng.random(), call: 0 });
        let d = OutputGradients { d_output: &d_output, d_final_state: None };
        let (output, gradients) = self.rnn.backward_blocking(&self.params, &seq, &d).unwrap();
        digest(&[output.output, output.final_state, gradients.d_input, gradients.d_params, gradients.d_initial_state])
    }

    fn session(&self, shape: SeqShape, rng: &mut ChaCha8Rng) -> u64 {
        let mut session = self.rnn.session(&self.params, shape).unwrap();
        let mut made = Vec::new();
        for _ in 0..3 {
            session.reset(&[rng.random_range(0..shape.batch_size)]).unwrap();
            made.push(session.advance_blocking(&uniform(rng, shape.rows() * self.rnn.config().input_size)).unwrap());
        }
        digest(&made)
    }

    fn trainer(&self, shape: SeqShape, rng: &mut ChaCha8Rng) -> u64 {
        let config = TrainConfig::new(shape, Objective::CrossEntropy, CLASSES).with_clip(Clip::Norm(1.0));
        let weights = Weights::init(&Layout::new(&self.rnn, &config).unwrap(), 1);
        let mut trainer = Trainer::new(&self.rnn, &config, Optimizer::adam(), &weights).unwrap();
        for _ in 0..3 {
            let input = uniform(rng, shape.rows() * self.rnn.config().input_size);
            let labels: Vec<u32> = (0..shape.rows()).map(|_| rng.random_range(0..CLASSES as u32)).collect();
            trainer.write_batch(&Batch::new(Inputs::Features(&input), Targets::Labels(&labels))).unwrap();
            trainer.step(0.01).unwrap();
        }
        let losses = trainer.losses_blocking().unwrap();
        digest(&[losses, trainer.weights_blocking().unwrap().values().to_vec()])
    }
}

fn uniform(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..=1.0)).collect()
}

fn digest(made: &[Vec<f32>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    made.iter().flatten().for_each(|value| value.to_bits().hash(&mut hasher));
    hasher.finish()
}
