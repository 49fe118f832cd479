//! Promises that always settle. A panic ends a future without a word to whoever waits for it, so the panic hook rejects them all.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use js_sys::{Error, Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;

use crate::Result;

#[derive(Default)]
struct Waiting {
    next: u64,
    rejects: BTreeMap<u64, Function>,
}

thread_local! {
    static WAITING: RefCell<Waiting> = RefCell::default();
}

/// Runs a future and promises what it gives.
pub fn promise<T: Into<JsValue>>(future: impl Future<Output = Result<T>> + 'static) -> Promise {
    settling(Box::pin(async { future.await.map(Into::into) }))
}

/// Compiled once, not for every call.
fn settling(future: Pin<Box<dyn Future<Output = Result<JsValue>>>>) -> Promise {
    let mut future = Some(future);
    Promise::new(&mut |resolve, reject| {
        let Some(future) = future.take() else { return };
        let id = WAITING.with_borrow_mut(|waiting| {
            waiting.next += 1;
            waiting.rejects.insert(waiting.next, reject.clone());
            waiting.next
        });
        spawn_local(async move {
            let result = future.await;
            WAITING.with_borrow_mut(|waiting| waiting.rejects.remove(&id));
            let settled = match result {
                Ok(value) => resolve.call1(&JsValue::UNDEFINED, &value),
                Err(error) => reject.call1(&JsValue::UNDEFINED, &error.into()),
            };
            // Neither of the two ever throws.
            drop(settled);
        });
    })
}

/// Of a panic: nothing goes on after it.
pub fn reject_all(message: &str) {
    let error = Error::new(&format!("tidegate panicked, which is a bug: {message}"));
    let rejects = WAITING.with(|waiting| waiting.try_borrow_mut().map(|mut waiting| std::mem::take(&mut waiting.rejects)));
    for reject in rejects.unwrap_or_default().into_values() {
        drop(reject.call1(&JsValue::UNDEFINED, &error));
    }
}
