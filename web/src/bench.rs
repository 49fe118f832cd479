//! `Bench`: the suites of `tidegate bench` on the visitor's device.

use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;

use futures_intrusive::sync::LocalMutex;
use js_sys::{Array, Promise};
use tidegate::bench::{self, Workload};
use tidegate::{Context, Dtype, Strategy};
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::fields::Fields;
use crate::options;
use crate::promise::promise;
use crate::tools::{Asked, run};

/// Workloads to be verified and timed one by one, and the report of those that were.
#[wasm_bindgen]
pub struct Bench {
    names: Vec<String>,
    suite: Rc<Suite>,
}

/// What was asked for, and what its calls leave for each other.
pub struct Suite {
    pub ctx: Context,
    pub device: String,
    suite: bench::Suite,
    dtype: Dtype,
    pub strategy: Strategy,
    pub ending: Cell<bool>,
    /// Of a type that only `tools` knows.
    pub state: LocalMutex<Option<Box<dyn Any>>>,
}

impl Suite {
    /// On a software adapter without the largest.
    pub fn workloads(&self) -> Result<Vec<Workload>> {
        let most_flops = if self.ctx.is_software() { self.suite.most_flops_on_cpu() } else { f64::INFINITY };
        let mut workloads = self.suite.workloads()?;
        workloads.retain(|workload| workload.flops() <= most_flops);
        workloads.iter_mut().for_each(|workload| workload.dtype = self.dtype);
        Ok(workloads)
    }
}

impl Bench {
    pub fn new(ctx: &Context, device: &str, suite: &str, fields: &Fields) -> Result<Self> {
        let suite = match suite {
            "quick" => bench::Suite::Quick,
            "latency" => bench::Suite::Latency,
            _ => return Err(JsError::new(&format!("unknown suite `{suite}`; known: quick, latency"))),
        };
        let (dtype, strategy) = (options::dtype(fields)?, options::strategy(fields)?);
        let (ending, state) = (Cell::default(), LocalMutex::new(None, true));
        let suite = Rc::new(Suite { ctx: ctx.clone(), device: device.into(), suite, dtype, strategy, ending, state });
        Ok(Self { names: suite.workloads()?.iter().map(Workload::to_string).collect(), suite })
    }
}

#[wasm_bindgen]
impl Bench {
    /// Names of the workloads, in order; on a software adapter without the largest.
    #[wasm_bindgen(getter, unchecked_return_type = "string[]")]
    pub fn cases(&self) -> Array {
        self.names.iter().map(|name| JsValue::from(name.as_str())).collect()
    }

    /// What the device does at best; before the first case, so that each row says what part of it was reached.
    #[wasm_bindgen(unchecked_return_type = "Promise<Peaks>")]
    pub fn peaks(&self) -> Promise {
        promise(run(Asked::Peaks(self.suite.clone())))
    }

    /// Verifies a case against the reference, then times it. The row of one that failed has an `error`.
    #[wasm_bindgen(unchecked_return_type = "Promise<Row>")]
    pub fn run(&self, index: usize) -> Promise {
        promise(run(Asked::Case(self.suite.clone(), index)))
    }

    /// Ends the case that runs as soon as it has one time.
    pub fn stop(&self) {
        self.suite.ending.set(true);
    }

    /// All rows so far as the JSON that `tidegate compare` reads.
    #[wasm_bindgen(unchecked_return_type = "Promise<string>")]
    pub fn report(&self) -> Promise {
        promise(run(Asked::Report(self.suite.clone())))
    }
}
