//! tidegate for JavaScript: an ES module over the library on WebGPU. `types.ts` is its documentation, `README.md` has an example.
#![cfg(target_arch = "wasm32")]

mod arrays;
mod bench;
mod device;
mod fields;
mod network;
mod options;
mod promise;
mod reference;
mod session;
mod tensors;
mod tools;
mod trainer;

use wasm_bindgen::prelude::*;

/// What goes wrong, as a JavaScript exception with the library's message.
type Result<T, E = JsError> = std::result::Result<T, E>;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = include_str!("types.ts");

#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|info| promise::reject_all(&info.to_string())));
}
