use std::sync::Arc;
use tidegate::check::Case;
use tidegate::{Context, RnnConfig, Strategy};
mod common;

#[test]
fn first() {
    let ctx = pollster::block_on(Context::request()).unwrap();
    println!("{:?}", ctx.adapter_info());
    let case = Case { ragged: false, resets: false, ..Case::new(RnnConfig::new(3, 5), 4, 2) };
    let full = Case { ..Case::new(RnnConfig::new(7, 9).with_num_layers(2).with_bidirectional(true).with_batch_first(true).with_dropout(0.3), 6, 5) };
    for (name, cell) in common::cell_variants().into_iter().take(7) {
        for case in [&case, &full] {
            let start = std::time::Instant::now();
            let r = pollster::block_on(case.check_gpu(&ctx, &cell, Strategy::Auto));
            println!("{name}: {r:?} {:?}", start.elapsed());
        }
    }
}
