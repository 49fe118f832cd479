//! `Bench`: the suites of `tidegate bench` on the visitor's device.

use std::cell::Cell;
use std::rc::Rc;

use futures_intrusive::sync::LocalMutex;
use js_sys::{Array, JSON, Object, Promise, Reflect};
use tidegate::bench::{self, Description, Entry, Host, Limits, Peaks, Products, Report, Runner, Suite, Workload};
use tidegate::{Context, Strategy};
use wasm_bindgen::prelude::*;

use crate::Result;
use crate::arrays::set;
use crate::fields::Fields;
use crate::options;
use crate::promise::promise;

/// Workloads to be verified and timed one by one, and the report of those that were.
#[wasm_bindgen]
pub struct Bench {
    names: Vec<String>,
    ending: Rc<Cell<bool>>,
    inner: Rc<LocalMutex<State>>,
}

struct State {
    ctx: Context,
    description: Description,
    strategy: Strategy,
    workloads: Vec<Workload>,
    runner: Runner,
    report: Report,
    limits: Option<Limits>,
}

impl Bench {
    pub fn new(ctx: &Context, device: &str, suite: &str, fields: &Fields) -> Result<Self> {
        let suite = match suite {
            "quick" => Suite::Quick,
            "latency" => Suite::Latency,
            _ => return Err(JsError::new(&format!("unknown suite `{suite}`; known: quick, latency"))),
        };
        let most_flops = if ctx.is_software() { suite.most_flops_on_cpu() } else { f64::INFINITY };
        let dtype = options::dtype(fields)?;
        let mut workloads = suite.workloads()?;
        workloads.retain(|workload| workload.flops() <= most_flops);
        workloads.iter_mut().for_each(|workload| workload.dtype = dtype);
        let state = State {
            ctx: ctx.clone(),
            description: Description { device: device.into(), ..Description::adapter(ctx.adapter_info()) },
            strategy: options::strategy(fields)?,
            runner: Runner::new(ctx, Products::default()),
            report: Report::new(host()),
            limits: None,
            workloads,
        };
        let names = state.workloads.iter().map(Workload::to_string).collect();
        Ok(Self { names, ending: Rc::default(), inner: Rc::new(LocalMutex::new(state, true)) })
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
        let inner = self.inner.clone();
        promise(async move {
            let mut state = inner.lock().await;
            let limits = Limits::measure(&state.ctx).await?;
            let peaks = Peaks { description: state.description.clone(), limits };
            let text = serde_json::to_string(&peaks)?;
            state.limits = Some(limits);
            state.report.rooflines = vec![peaks];
            parse(&text)
        })
    }

    /// Verifies a case against the reference, then times it. The row of one that failed has an `error`.
    #[wasm_bindgen(unchecked_return_type = "Promise<Row>")]
    pub fn run(&self, index: usize) -> Promise {
        let (inner, ending) = (self.inner.clone(), self.ending.clone());
        promise(async move {
            let mut state = inner.lock().await;
            let State { ctx, description, strategy, workloads, runner, report, limits } = &mut *state;
            let count = workloads.len();
            let no_case = || JsError::new(&format!("case {index} of {count}, counted from 0"));
            let workload = workloads.get(index).ok_or_else(no_case)?;
            let stop = || ending.get();
            let measured = match bench::rnn(ctx, workload, *strategy) {
                Ok(rnn) => runner.measure(&rnn, workload, &stop).await,
                Err(error) => Err(error),
            };
            let error = measured.as_ref().err().map(ToString::to_string);
            let entry = Entry::new(description, workload, *strategy, measured.ok(), limits.as_ref());
            let row = parse(&serde_json::to_string(&entry)?)?;
            report.results.push(entry);
            if let Some(error) = error {
                set(&row, "error", &error.into());
            }
            Ok(row)
        })
    }

    /// Ends the case that runs as soon as it has one time.
    pub fn stop(&self) {
        self.ending.set(true);
    }

    /// All rows so far as the JSON that `tidegate compare` reads.
    #[wasm_bindgen(unchecked_return_type = "Promise<string>")]
    pub fn report(&self) -> Promise {
        let (inner, ending) = (self.inner.clone(), self.ending.clone());
        promise(async move {
            let mut state = inner.lock().await;
            state.report.interrupted = ending.get();
            Ok(serde_json::to_string_pretty(&state.report)?)
        })
    }
}

fn parse(text: &str) -> Result<Object> {
    JSON::parse(text).map(Object::from).map_err(|error| JsError::new(&format!("{error:?}")))
}

/// What the browser tells of the machine.
fn host() -> Host {
    let field = |name: &str| {
        let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).ok()?;
        Reflect::get(&navigator, &name.into()).ok()
    };
    Host {
        os: field("platform").and_then(|value| value.as_string()).unwrap_or_else(|| "unknown".into()),
        arch: std::env::consts::ARCH.into(),
        cpus: field("hardwareConcurrency").and_then(|value| value.as_f64()).map(|count| count as usize),
        cpu: field("userAgent").and_then(|value| value.as_string()),
        load_average: None,
    }
}
