//! Parameters by their names, and files of them.

use js_sys::Object;
use tidegate::ParamLayout;
use tidegate::import::read_tensors;
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::arrays::{bytes, object, set, tensor};

/// A `Record<string, Tensor>` of a flat block.
pub fn record(layout: &ParamLayout, values: &[f32]) -> Object {
    let record = object([]);
    for spec in layout.iter() {
        set(&record, &spec.name, &tensor(&spec.shape, &values[spec.range.clone()]));
    }
    record
}

/// All tensors of a safetensors file; f16 and bf16 are widened, other types refused by name.
#[wasm_bindgen(js_name = readSafetensors, unchecked_return_type = "Record<string, Tensor>")]
pub fn read_safetensors(#[wasm_bindgen(unchecked_param_type = "ArrayBuffer | Uint8Array")] file: JsValue) -> Result<Object> {
    let record = object([]);
    for found in read_tensors(&bytes(file)?)? {
        set(&record, &found.name, &tensor(&found.shape, &found.values));
    }
    Ok(record)
}
