//! `Session`: a stream that goes on chunk by chunk.

use std::rc::Rc;

use futures_intrusive::sync::LocalMutex;
use js_sys::{Float32Array, Promise, Uint32Array};
use tidegate::{Context, SeqShape};
use wasm_bindgen::prelude::*;

use crate::arrays::f32s;
use crate::promise::promise;

/// A stream that keeps its state on the GPU. Calls run one after another, in the order in which they were made.
#[wasm_bindgen]
pub struct Session {
    ctx: Context,
    shape: SeqShape,
    inner: Rc<LocalMutex<tidegate::Session>>,
}

impl Session {
    pub fn new(ctx: &Context, session: tidegate::Session, shape: SeqShape) -> Self {
        Self { ctx: ctx.clone(), shape, inner: Rc::new(LocalMutex::new(session, true)) }
    }
}

#[wasm_bindgen]
impl Session {
    /// Sends the next chunk `[T, B, I]` through and gives its output `[T, B, H]`.
    #[wasm_bindgen(unchecked_return_type = "Promise<Float32Array>")]
    pub fn step(&self, input: Float32Array) -> Promise {
        let (inner, input) = (self.inner.clone(), input.to_vec());
        promise(async move { Ok(f32s(&inner.lock().await.advance(&input).await?)) })
    }

    /// Makes the state of these rows zero before the next chunk; of all, if none are named.
    #[wasm_bindgen(unchecked_return_type = "Promise<void>")]
    pub fn reset(&self, rows: Option<Uint32Array>) -> Promise {
        let rows: Vec<usize> =
            rows.map_or((0..self.shape.batch_size).collect(), |rows| rows.to_vec().iter().map(|&row| row as usize).collect());
        let inner = self.inner.clone();
        promise(async move { Ok(inner.lock().await.reset(&rows).map(|()| JsValue::UNDEFINED)?) })
    }

    /// The state `[S, L, B, H]`.
    #[wasm_bindgen(unchecked_return_type = "Promise<Float32Array>")]
    pub fn state(&self) -> Promise {
        let (inner, ctx) = (self.inner.clone(), self.ctx.clone());
        promise(async move {
            let session = inner.lock().await;
            let [state] = ctx.download([session.state()]).await?;
            Ok(f32s(&state))
        })
    }

    /// Overwrites the state `[S, L, B, H]`.
    #[wasm_bindgen(js_name = setState, unchecked_return_type = "Promise<void>")]
    pub fn set_state(&self, state: Float32Array) -> Promise {
        let (inner, state) = (self.inner.clone(), state.to_vec());
        promise(async move { Ok(inner.lock().await.set_state(&state).map(|()| JsValue::UNDEFINED)?) })
    }
}
