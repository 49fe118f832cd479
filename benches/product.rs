//! The bulk products: forward's x·W_ih over all T·B rows, backward's gradients of W_ih and of x.
//!
//! tidegate has no call for a bare product. A linear RNN of one step over a large batch is nearly that: rows = T·B = B, and
//! with I = 8·H or more the recurrent product is at most an eighth of the work; it is not counted in the throughput.
//! Elements per second are FLOPs per second of the input products alone.

mod common;

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tidegate::{Elman, RnnConfig, SeqShape};

use common::{Bench, Passes};

/// Rows, I, H.
const SIZES: [(usize, usize, usize); 3] = [(128, 512, 64), (512, 512, 64), (512, 1024, 128)];

fn product(criterion: &mut Criterion) {
    let bench = Bench::new();
    let clock = bench.clock();
    let mut group = criterion.benchmark_group("product");
    group.sampling_mode(SamplingMode::Flat);
    for (rows, input_size, hidden_size) in SIZES {
        let config = RnnConfig::new(input_size, hidden_size);
        let shape = SeqShape { seq_len: 1, batch_size: rows };
        let passes = Passes::new(&bench, Arc::new(Elman::linear()), config, shape, true).expect("the device can hold it");
        let flops = 2 * (rows * input_size * hidden_size) as u64;
        let size = format!("rows{rows}_i{input_size}_h{hidden_size}");

        group.throughput(Throughput::Elements(flops));
        group.bench_function(BenchmarkId::new(format!("forward/{clock}"), &size), |b| {
            b.iter_custom(|n| (0..n).map(|_| bench.time(|pass| passes.forward.dispatch(pass))).sum());
        });
        // The gradient of W_ih and that of x.
        group.throughput(Throughput::Elements(2 * flops));
        group.bench_function(BenchmarkId::new(format!("backward/{clock}"), &size), |b| {
            b.iter_custom(|n| (0..n).map(|_| bench.time(|pass| passes.backward.dispatch(pass))).sum());
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = product }
criterion_main!(benches);
