//! Files that we write against PyTorch, which loaded them: `tests/fixtures/pytorch/export/generate.py`.

mod common;

use std::collections::BTreeMap;

use common::recorded::Recorded;
use safetensors::SafeTensors;
use tidegate::cell::by_name;
use tidegate::import::Model;
use tidegate::{ParamLayout, Params};

/// The very files, tensor by tensor, that PyTorch took.
#[test]
fn writes_what_pytorch_loaded() {
    let records = Recorded::all("pytorch/export");
    for record in &records {
        let layout = ParamLayout::new(&by_name(record.text("cell")).unwrap(), &record.config()).unwrap();
        let params = Params::uniform(&layout, record.number("seed") as u64);
        let written = params.to_safetensors(record.text("prefix")).unwrap();
        let [written, loaded] = [&written, &record.network].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
        let [written, loaded] = [written.tensors(), loaded.tensors()].map(BTreeMap::from_iter);
        assert_eq!(written, loaded, "{}", record.name);
    }
    assert!(records.len() >= 7, "only {} records", records.len());
}

/// What PyTorch then computed.
#[test]
fn computes_what_pytorch_computed() {
    let ctx = common::own_context();
    for record in Recorded::all("pytorch/export") {
        let model = Model::from_safetensors(&record.network, None).unwrap();
        assert_eq!((model.cell.name(), &*model.prefix), (record.text("cell"), record.text("prefix")), "{}", record.name);
        assert_eq!(model.config, record.config(), "{}", record.name);
        record.check(&ctx, &model);
    }
}
