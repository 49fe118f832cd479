//! The calls of `Bench`.

use std::any::Any;

use js_sys::{JSON, Object, Reflect};
use tidegate::bench::{self, Description, Entry, Host, Limits, Peaks, Products, Report, Runner, Workload};
use wasm_bindgen::{JsError, JsValue};

use crate::Result;
use crate::arrays::set;
use crate::bench::Suite;

/// What a suite has made and measured.
struct State {
    description: Description,
    workloads: Vec<Workload>,
    runner: Runner,
    report: Report,
    limits: Option<Limits>,
}

/// As the call before left it.
fn state<'a>(suite: &Suite, kept: &'a mut Option<Box<dyn Any>>) -> Result<&'a mut State> {
    if kept.is_none() {
        let Suite { ctx, device, .. } = suite;
        *kept = Some(Box::new(State {
            description: Description { device: device.clone(), ..Description::adapter(ctx.adapter_info()) },
            workloads: suite.workloads()?,
            runner: Runner::new(ctx, Products::default()),
            report: Report::new(host()),
            limits: None,
        }));
    }
    kept.as_mut().and_then(|kept| kept.downcast_mut()).ok_or_else(|| JsError::new("a suite's state is not one"))
}

pub async fn peaks(suite: &Suite) -> Result<JsValue> {
    let mut kept = suite.state.lock().await;
    let state = state(suite, &mut kept)?;
    let limits = Limits::measure(&suite.ctx).await?;
    let peaks = Peaks { description: state.description.clone(), limits };
    let text = serde_json::to_string(&peaks)?;
    state.limits = Some(limits);
    state.report.rooflines = vec![peaks];
    Ok(parse(&text)?.into())
}

/// Verifies a case against the reference, then times it.
pub async fn case(suite: &Suite, index: usize) -> Result<JsValue> {
    let mut kept = suite.state.lock().await;
    let State { description, workloads, runner, report, limits } = state(suite, &mut kept)?;
    let (count, strategy) = (workloads.len(), suite.strategy);
    let no_case = || JsError::new(&format!("case {index} of {count}, counted from 0"));
    let workload = workloads.get(index).ok_or_else(no_case)?;
    let stop = || suite.ending.get();
    let measured = match bench::rnn(&suite.ctx, workload, strategy) {
        Ok(rnn) => runner.measure(&rnn, workload, &stop).await,
        Err(error) => Err(error),
    };
    let error = measured.as_ref().err().map(ToString::to_string);
    let entry = Entry::new(description, workload, strategy, measured.ok(), limits.as_ref());
    let row = parse(&serde_json::to_string(&entry)?)?;
    report.results.push(entry);
    if let Some(error) = error {
        set(&row, "error", &error.into());
    }
    Ok(row.into())
}

pub async fn report(suite: &Suite) -> Result<JsValue> {
    let mut kept = suite.state.lock().await;
    let report = &mut state(suite, &mut kept)?.report;
    report.interrupted = suite.ending.get();
    Ok(serde_json::to_string_pretty(report)?.into())
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
