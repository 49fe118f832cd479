//! Bytes that come in, and objects that go out.

use js_sys::{Array, ArrayBuffer, Float32Array, Object, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;

use crate::Result;

/// An `ArrayBuffer` or a `Uint8Array`, copied.
pub fn bytes(value: JsValue) -> Result<Vec<u8>> {
    if let Some(array) = value.dyn_ref::<Uint8Array>() {
        return Ok(array.to_vec());
    }
    if value.is_instance_of::<ArrayBuffer>() {
        return Ok(Uint8Array::new(&value).to_vec());
    }
    Err(JsError::new("expected an ArrayBuffer or a Uint8Array"))
}

/// A plain object of these fields.
pub fn object<const N: usize>(fields: [(&str, JsValue); N]) -> Object {
    let object = Object::new();
    for (name, value) in fields {
        set(&object, name, &value);
    }
    object
}

pub fn set(object: &Object, name: &str, value: &JsValue) {
    // Of a plain object that nobody else has yet it cannot fail.
    drop(Reflect::set(object, &name.into(), value));
}

pub fn f32s(values: &[f32]) -> JsValue {
    Float32Array::from(values).into()
}

/// `{ shape, data }`.
pub fn tensor(shape: &[usize], data: &[f32]) -> JsValue {
    let shape: Array = shape.iter().map(|&size| JsValue::from(size as f64)).collect();
    object([("shape", shape.into()), ("data", f32s(data))]).into()
}
