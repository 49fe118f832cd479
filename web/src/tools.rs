//! What few pages ask for, and which is large: checking, measuring, tuning. It is a wasm module of its own, `split_tools.wasm`, that is
//! fetched when one of these calls is first made. Nothing outside this module may call what only it needs: that would draw it into the
//! module that every page loads, whose size `web/build` checks.

mod bench;
mod check;
mod tune;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use wasm_bindgen::{JsError, JsValue};
use wasm_split_helpers::wasm_split;

use crate::Result;
use crate::bench::Suite;
use crate::network::Shared;

/// A call, with all that it needs.
pub enum Asked {
    Check { ctx: tidegate::Context, cell: String, options: JsValue },
    Tune { network: Rc<Shared>, options: JsValue },
    Peaks(Rc<Suite>),
    Case(Rc<Suite>, usize),
    Report(Rc<Suite>),
}

type Answer = Pin<Box<dyn Future<Output = Result<JsValue>>>>;

/// Fetches the module where no call was made before, and runs this one. A fetch that failed is tried again by the next call.
pub async fn run(asked: Asked) -> Result<JsValue> {
    let unloaded =
        |_| JsError::new("split_tools.wasm could not be loaded: it belongs beside tidegate.js (the console says more)");
    load().await.map_err(unloaded)?;
    begin(asked).await?.await
}

#[wasm_split(tools, fallible, preload(load))]
fn begin(asked: Asked) -> Result<Answer> {
    Ok(match asked {
        Asked::Check { ctx, cell, options } => Box::pin(async move { check::check(&ctx, &cell, options).await }),
        Asked::Tune { network, options } => Box::pin(async move { tune::tune(&network, options).await }),
        Asked::Peaks(suite) => Box::pin(async move { bench::peaks(&suite).await }),
        Asked::Case(suite, index) => Box::pin(async move { bench::case(&suite, index).await }),
        Asked::Report(suite) => Box::pin(async move { bench::report(&suite).await }),
    })
}
