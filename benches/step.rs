//! One step of the recurrence in training: a whole pass over T = 64 steps, divided by T.
//!
//! With I = 1 the input product costs next to nothing, and backward leaves out the gradient of the input. What remains
//! beside the steps: in forward the packing of states, in backward the gradients of W_hh and the biases, whose bulk
//! products do as many FLOPs as the backward steps themselves.

mod common;

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use tidegate::cell::by_name;
use tidegate::{RnnConfig, SeqShape};

use common::{Bench, Passes};

const SEQ_LEN: u32 = 64;
/// H, B.
const SIZES: [(usize, usize); 3] = [(64, 1), (128, 8), (256, 16)];

fn step(criterion: &mut Criterion) {
    let bench = Bench::new();
    let clock = bench.clock();
    let mut group = criterion.benchmark_group("step");
    group.sampling_mode(SamplingMode::Flat);
    for name in ["lstm", "gru"] {
        for (hidden_size, batch_size) in SIZES {
            let cell = by_name(name).expect("a shipped cell");
            let shape = SeqShape { seq_len: SEQ_LEN as usize, batch_size };
            let config = RnnConfig::new(1, hidden_size);
            let passes = Passes::new(&bench, cell, config, shape, false).expect("the device can hold it");
            let size = format!("h{hidden_size}_b{batch_size}");

            group.bench_function(BenchmarkId::new(format!("{name}/forward/{clock}"), &size), |b| {
                b.iter_custom(|n| (0..n).map(|_| bench.time(|pass| passes.forward.dispatch(pass)) / SEQ_LEN).sum());
            });
            group.bench_function(BenchmarkId::new(format!("{name}/backward/{clock}"), &size), |b| {
                b.iter_custom(|n| (0..n).map(|_| bench.time(|pass| passes.backward.dispatch(pass)) / SEQ_LEN).sum());
            });
        }
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = step }
criterion_main!(benches);
