//! Devices against each other: workloads, each verified against the float64 reference, then timed.
//!
//! Nothing here blocks in browsers: all that waits for the GPU is `async`. Natively it waits on the calling thread, so
//! `pollster::block_on` will do.
//!
//! ```
//! use tidegate::bench::{self, Description, Entry, Host, Limits, Peaks, Products, Report, Runner, Suite};
//! use tidegate::{Context, Result, Strategy};
//!
//! async fn measure(ctx: &Context, host: Host, stop: &dyn Fn() -> bool) -> Result<Report> {
//!     let description = Description::adapter(ctx.adapter_info());
//!     let mut report = Report::new(host);
//!     let limits = Limits::measure(ctx).await?;
//!     report.rooflines.push(Peaks { description: description.clone(), limits });
//!     let mut runner = Runner::new(ctx, Products::default());
//!     for workload in Suite::Quick.workloads()? {
//!         if stop() {
//!             break;
//!         }
//!         let rnn = bench::rnn(ctx, &workload, Strategy::Auto)?;
//!         let measured = runner.measure(&rnn, &workload, stop).await;
//!         report.results.push(Entry::new(&description, &workload, Strategy::Auto, measured.ok(), Some(&limits)));
//!     }
//!     Ok(report)
//! }
//! # let ctx = pollster::block_on(Context::request())?;
//! # let report = pollster::block_on(measure(&ctx, Host::here(), &|| true))?;
//! # assert!(serde_json::to_string(&report).is_ok_and(|json| json.starts_with(r#"{"schema":1,"#)));
//! # Ok::<_, tidegate::Error>(())
//! ```

mod deepbench;
mod description;
mod dispatch_times;
mod floor;
mod gpu_clock;
mod hooks;
mod host;
mod marks;
mod measure;
mod recurrence;
mod report;
mod roofline;
mod run;
mod scaling;
mod score;
mod suite;
mod times;
mod verify;
mod workload;

pub use description::Description;
pub use dispatch_times::DispatchTime;
pub use floor::Floor;
pub use hooks::{Hooks, Next, Phase};
pub use host::Host;
pub use marks::Mark;
pub use measure::{Measured, Runner, on_cpu};
pub use report::{Entry, Limits, Peaks, Report, Scored};
pub use roofline::Roofline;
pub use run::{Products, rnn};
pub use scaling::Series;
pub use score::{REFERENCE, Score};
pub use suite::Suite;
pub use times::Times;
pub use verify::Verified;
pub use workload::{Kind, Workload};
