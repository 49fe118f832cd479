//! `bench`: its report, its table, and what it refuses.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::command::{Folder, command, fail, succeed, tidegate};

/// The results that `bench` wrote for a small GRU.
fn bench(device: &str, args: &[&str]) -> Vec<Value> {
    let folder = Folder::new();
    let json = folder.path("bench.json");
    let small = ["bench", "--cell", "gru", "--input", "8", "--hidden", "8", "--seq", "4", "--batch", "2", "--device", device];
    let args = small.iter().chain(args).map(OsStr::new).chain([OsStr::new("--json"), json.as_os_str()]);
    let table = succeed(args);
    assert!(["gru", "mode", "wrote "].iter().all(|text| table.contains(text)), "{table}");
    assert_eq!(table.contains(" verified against the float64 reference"), device != "cpu", "{table}");
    let may_be_long = |line: &str| line.starts_with("wrote ") || line.contains("tuning-");
    assert!(table.lines().all(|line| line.chars().count() <= 80 || may_be_long(line)), "{table}");
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!((&report["schema"], &report["tidegate_version"]), (&1.into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!(report["host"]["os"], std::env::consts::OS);
    assert!(report["host"]["cpus"].as_u64().unwrap() >= 1);
    let rooflines = report["rooflines"].as_array().unwrap();
    assert_eq!(rooflines.len(), usize::from(device != "cpu"));
    for roofline in rooflines {
        let cost = |name: &str| roofline[name].as_f64().unwrap();
        assert!(
            cost("submit_us") > 0.0 && cost("dispatch_us") >= 0.0 && cost("dispatch_us") < cost("submit_us") * 1e3,
            "{roofline}"
        );
        assert!(roofline["round_trip_workgroups"].as_u64().unwrap() >= 1, "{roofline}");
    }
    let peaks = rooflines.iter().flat_map(|roofline| ["peak_gflops", "peak_gbytes"].map(|peak| roofline[peak].as_f64().unwrap()));
    // A core of any machine is somewhere in between.
    assert!(peaks.into_iter().all(|peak| peak > 0.01 && peak < 1e7), "{rooflines:?}");
    // Of suite scaling alone.
    assert_eq!(report["scaling"], serde_json::json!([]));
    report["results"].as_array().unwrap().clone()
}

fn check_result(result: &Value, mode: &str) {
    let mut fields: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut expected = [
        "device",
        "backend",
        "driver",
        "device_type",
        "cell",
        "mode",
        "I",
        "H",
        "L",
        "D",
        "T",
        "B",
        "dtype",
        "strategy",
        "cooperative",
        "dispatches",
        "repairs",
        "includes_input",
        "ms_median",
        "ms_median_spread",
        "ms_min",
        "first_ms",
        "gpu_ms_median",
        "runs",
        "gflops",
        "roofline_fraction",
        "launch_fraction",
        "verified",
        "verified_T",
        "verified_B",
        "max_rel_err",
        "stream",
        "us_per_step_p50",
        "us_per_step_p99",
        "us_per_step_host_p50",
        "us_per_step_host_p99",
        "published_ms",
        "bound_by",
        "bound_fraction",
        "clock_mhz",
        "max_clock_mhz",
        "power_watts",
        "marks",
        "measured_again",
        "untuned",
        "tuning_ms",
        "verifying_ms",
        "warm_up_ms",
    ];
    // Only where this run tuned, and where the device tells.
    fields.retain(|&name| !["tried", "api_version", "dispatch_times"].contains(&name));
    expected.sort_unstable();
    assert_eq!(fields, expected);
    let exact = [("I", 8), ("H", 8), ("L", 1), ("D", 1), ("T", 4), ("B", 2), ("verified_T", 4), ("verified_B", 2)];
    assert!(exact.iter().all(|&(name, value)| result[name] == value), "{result}");
    assert_eq!((&result["cell"], &result["mode"]), (&"gru".into(), &mode.into()));
    assert_eq!((&result["verified"], &result["includes_input"]), (&true.into(), &true.into()));
    assert!(result["published_ms"].is_null(), "{result}");
    let number = |name: &str| result[name].as_f64().unwrap();
    assert!(number("ms_min") > 0.0 && number("ms_median") >= number("ms_min") && number("runs") >= 5.0);
    // 2·G·H·(H + I)·B·T FLOPs, three times as many in training.
    let flops = 2.0 * 3.0 * 8.0 * 16.0 * 2.0 * 4.0 * if mode == "train" { 3.0 } else { 1.0 };
    assert!((number("gflops") * number("ms_median") * 1e6 / flops - 1.0).abs() < 1e-9, "{result}");
}

/// Times per step are those of latency and of streams.
fn check_no_steps(result: &Value) {
    let steps = ["us_per_step_p50", "us_per_step_p99", "us_per_step_host_p50", "us_per_step_host_p99"];
    assert!(steps.iter().all(|name| result[name].is_null()) && result["stream"] == false, "{result}");
}

#[test]
fn bench_times_the_reference() {
    let results = bench("cpu", &[]);
    assert_eq!(results.len(), 2);
    for (result, mode) in results.iter().zip(["infer", "train"]) {
        check_result(result, mode);
        check_no_steps(result);
        assert_eq!((&result["device_type"], &result["dispatches"]), (&"cpu-reference".into(), &0.into()));
        assert!(result["roofline_fraction"].is_null());
    }
}

#[test]
fn bench_verifies_and_times_an_adapter() {
    let results = bench("0", &["--mode", "train", "--strategy", "stepwise", "--profile"]);
    assert_eq!(results.len(), 1);
    check_result(&results[0], "train");
    check_no_steps(&results[0]);
    assert_eq!(results[0]["strategy"], "stepwise");
    let fraction = results[0]["roofline_fraction"].as_f64().unwrap();
    assert!(fraction > 0.0 && fraction < 1.0, "{fraction}");
    assert!(results[0]["dispatches"].as_u64().unwrap() > 4);
    let error = results[0]["max_rel_err"].as_f64().unwrap();
    assert!(error > 0.0 && error < 1e-5, "{error}");
    check_dispatch_times(&results[0]);
}

/// Every dispatch of the run has a time, if the device has timestamps.
fn check_dispatch_times(result: &Value) {
    if result["gpu_ms_median"].is_null() {
        assert!(result["dispatch_times"].is_null(), "{result}");
        return;
    }
    let times = result["dispatch_times"].as_array().unwrap();
    assert_eq!(times.iter().map(|time| time["times"].as_u64().unwrap()).sum::<u64>(), result["dispatches"].as_u64().unwrap());
    for time in times {
        let file = format!("{}/shaders/{}.wgsl", env!("CARGO_MANIFEST_DIR"), time["kernel"].as_str().unwrap());
        assert!(PathBuf::from(&file).exists() && time["us"].as_f64().unwrap() > 0.0, "{time}");
    }
    let step = times.iter().find(|time| time["kernel"] == "recurrence/stepwise_forward").unwrap();
    assert_eq!((&step["pass"], &step["times"]), (&"forward".into(), &4.into()));
}

#[test]
fn bench_times_f16_storage() {
    let [one, two] = <[Value; 2]>::try_from(bench("0", &["--dtype", "f16"])).unwrap();
    for entry in [one, two] {
        assert_eq!((&entry["dtype"], &entry["verified"]), (&"f16".into(), &true.into()), "{entry}");
        let error = entry["max_rel_err"].as_f64().unwrap();
        assert!(error > 1e-5 && error < 2e-3, "an error of {error} is not that of f16");
    }
}

#[test]
fn bench_times_the_steps_of_a_stream() {
    for device in ["0", "cpu"] {
        let results = bench(device, &["--stream"]);
        assert_eq!(results.len(), 1);
        let result = &results[0];
        check_result(result, "infer");
        assert_eq!(result["stream"], true);
        let number = |name: &str| result[name].as_f64().unwrap();
        // Chunks of 4 steps.
        assert!((number("us_per_step_p50") * 4.0 / 1e3 / number("ms_median") - 1.0).abs() < 1e-9, "{result}");
        assert!(number("us_per_step_p99") >= number("us_per_step_p50"), "{result}");
        if device == "cpu" {
            assert!(result["us_per_step_host_p50"].is_null(), "{result}");
        } else {
            assert!(number("max_rel_err") > 0.0 && number("max_rel_err") < 1e-5, "{result}");
            assert!(number("us_per_step_host_p99") >= number("us_per_step_host_p50"), "{result}");
        }
    }
}

/// The smallest row of suite deepbench: alone with one input feature, and as a whole layer; the rest is too much for a CPU.
#[test]
fn bench_runs_deepbench_as_far_as_a_cpu_can() {
    let folder = Folder::new();
    let json = folder.path("bench.json");
    let command = ["bench", "--suite", "deepbench", "--filter", "gru ", "--device", "cpu", "--json"].map(OsStr::new);
    let table = succeed(command.into_iter().chain([json.as_os_str()]));
    // Paragraphs are wrapped.
    let table = table.clone() + &table.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        "gru 512 alone ",
        "gru 512  ",
        "cuDNN: published milliseconds of V100 cuDNN 7.6",
        "0.0880",
        "too many FLOPs for a CPU: 72 of 76",
        "and 62 others",
    ] {
        assert!(table.contains(text), "{text} in {table}");
    }
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let results = report["results"].as_array().unwrap();
    // FLOPs by H, and by I + H where the input's product counts; backward twice forward's.
    let expected =
        [("infer", 1, 512, 0.088), ("train", 1, 3 * 512, 0.278), ("infer", 512, 1024, 0.0), ("train", 512, 3 * 1024, 0.0)];
    assert_eq!(results.len(), expected.len());
    for (result, (mode, input, width, published)) in results.iter().zip(expected) {
        assert_eq!((&result["mode"], &result["I"], &result["B"]), (&mode.into(), &input.into(), &32.into()));
        assert_eq!((&result["includes_input"], &result["verified"]), (&(input > 1).into(), &true.into()));
        assert_eq!(result["published_ms"].as_f64().unwrap_or_default(), published, "{result}");
        let flops = f64::from(2 * 3 * 512 * 32 * width);
        let counted = result["gflops"].as_f64().unwrap() * result["ms_median"].as_f64().unwrap() * 1e6;
        assert!((counted / flops - 1.0).abs() < 1e-9, "{result}");
    }
}

#[test]
fn bench_lists_filters_and_ends_in_time() {
    let list = succeed(["bench", "--suite", "latency", "--filter", "gru I=512", "--list"]);
    assert_eq!(list.lines().count(), 4, "{list}");
    // 2·3·512·1024·64 FLOPs.
    assert!(list.starts_with("gru I=512 H=512 T=64 B=1 infer: 0.201 GFLOP\n"), "{list}");
    // What a device's progress counts, where that is not the number of lines.
    let list = succeed(["bench", "--suite", "recurrence", "--list"]);
    let (lines, large) = (list.lines().filter(|line| line.ends_with(" GFLOP")), |line: &&str| {
        line.split_whitespace().rev().nth(1).is_some_and(|gflop| gflop.parse::<f64>().unwrap() > 10.0)
    });
    let (count, large) = (lines.clone().count(), lines.filter(large).count());
    let note = format!(
        "A GPU runs {} rows, each of these workloads without tuning and tuned. An adapter on the CPU runs {} rows, those of up to 10 GFLOP.",
        2 * count,
        2 * (count - large)
    );
    assert!(large > 0 && list.split_whitespace().collect::<Vec<_>>().join(" ").ends_with(&note), "{note}: {list}");
    let folder = Folder::new();
    let json = folder.path("bench.json");
    let command = ["bench", "--device", "cpu", "--budget", "0", "--json"].map(OsStr::new);
    let table = succeed(command.into_iter().chain([json.as_os_str()]));
    assert!(table.contains("out of time: 16 of 16\n  lstm I=64 H=64 T=32 B=1 infer"), "{table}");
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["results"], serde_json::json!([]));
}

#[test]
fn bench_refuses_what_means_nothing() {
    let small = |args: &[&str]| {
        let all = ["bench", "--device", "cpu", "--seq", "4", "--batch", "2", "--hidden", "8"];
        all.iter().chain(args).map(|arg| arg.to_string()).collect::<Vec<_>>()
    };
    assert!(fail(small(&["--cell", "gru"])).contains("--input"));
    assert!(fail(small(&["--cell", "gro", "--input", "1"])).contains("gro"));
    assert!(fail(small(&["--cell", "gru", "--input", "1", "--suite", "quick"])).contains("--suite"));
    assert!(fail(small(&["--cell", "gru", "--input", "1", "--stream", "--bidirectional"])).contains("--bidirectional"));
    assert!(fail(small(&["--cell", "gru", "--input", "1", "--stream", "--mode", "train"])).contains("--mode"));
    assert!(fail(["bench", "--stream"]).contains("--cell"));
    let refused = fail(["bench", "--suite", "slow"]);
    assert!(
        ["slow", "quick", "deepbench", "latency", "scaling", "product"].iter().all(|name| refused.contains(name)),
        "{refused}"
    );
    assert!(fail(["bench", "--filter", "vanilla"]).contains("vanilla"));
    assert!(fail(small(&["--cell", "gru", "--input", "1", "--filter", "gru"])).contains("--filter"));
    assert!(fail(["bench", "--device", "none"]).contains("none"));
    let refused = fail(["bench", "--tile", "16x16"]);
    assert!(refused.contains("16x16") && refused.contains("128x64"), "{refused}");
}

/// A wrong command line, before anything is measured.
#[test]
fn bench_refuses_sizes_that_mean_nothing() {
    let sizes = ["--input", "--hidden", "--seq", "--batch"];
    let wrong = sizes.iter().flat_map(|name| [(*name, "0"), (*name, "18446744073709551615")]);
    for (wrong, value) in wrong {
        let values = sizes.iter().flat_map(|name| [*name, if *name == wrong { value } else { "2" }]);
        let output = tidegate(["bench", "--device", "0", "--cell", "gru"].into_iter().chain(values));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{wrong} {value}: {stderr}");
        assert!(stderr.lines().count() == 1 && stderr.contains(value), "{stderr}");
    }
    assert_eq!(tidegate(["bench", "--device", "none"]).status.code(), Some(2));
    let output = tidegate(["bench", "--cell", "ltsm"].into_iter().chain(sizes.iter().flat_map(|name| [*name, "2"])));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && stderr.contains("ltsm") && stderr.contains("lstm"), "{stderr}");
}

#[test]
fn bench_reports_what_it_cannot_run() {
    let folder = Folder::new();
    let json = folder.path("bench.json");
    for device in ["cpu", "0"] {
        for (hidden, seq) in [("4000000000", "4"), ("8", "4000000000")] {
            let command = ["bench", "--device", device, "--cell", "gru", "--input", "8", "--batch", "1", "--mode", "infer"];
            let command = command.into_iter().chain(["--hidden", hidden, "--seq", seq, "--json"]).map(OsStr::new);
            let output = tidegate(command.chain([json.as_os_str()]));
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(stderr.lines().count() == 2 && stderr.ends_with("1 of 1 workloads failed\n"), "{stderr}");
            let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
            let result = &report["results"][0];
            assert_eq!((&result["verified"], &result["ms_median"], &result["runs"]), (&false.into(), &Value::Null, &0.into()));
            assert!(stderr.contains(result["error"].as_str().unwrap()), "{result}: {stderr}");
        }
    }
}

/// llvmpipe of Mesa 25.0 has none; where there are some this says so.
#[test]
fn bench_refuses_cooperative_matrices_that_are_not_there() {
    let output = tidegate(
        ["bench", "--device", "0", "--cooperative", "--dtype", "f16", "--cell", "gru", "--input", "8", "--hidden", "8"]
            .iter()
            .chain(["--seq", "4", "--batch", "2", "--mode", "infer"].iter())
            .map(OsStr::new),
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    if !output.status.success() {
        assert!(stderr.contains("cooperative matrices") && stderr.ends_with("1 of 1 workloads failed\n"), "{stderr}");
    } else {
        println!("this adapter has cooperative matrices, and they are right");
    }
}

/// What `auto` finds out is measured once, kept for the user, and chosen from then on; a damaged file is measured anew.
#[test]
fn bench_keeps_what_it_tuned() {
    let folder = Folder::new();
    let case = ["--cell", "gru", "--input", "3", "--hidden", "5", "--seq", "4", "--batch", "2", "--mode", "infer"];
    let small = [&["bench", "--device", "0"][..], &case].concat();
    let run = || {
        let output = command().args(&small).env("XDG_CACHE_HOME", &folder.0).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let kept = || {
        let files: Vec<PathBuf> = fs::read_dir(folder.path("tidegate")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        (files[0].clone(), fs::read_to_string(&files[0]).unwrap())
    };
    run();
    let (file, text) = kept();
    let tuning: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(tuning["choices"][0]["class"]["cell"], "gru");
    // Nothing is measured again: what the file says is what runs.
    let chosen = tuning["choices"][0]["strategy"].as_str().unwrap();
    let other = if chosen == "stepwise" { "resident" } else { "stepwise" };
    let forged = text.replace(&format!("\"strategy\": \"{chosen}\""), &format!("\"strategy\": \"{other}\""));
    fs::write(&file, &forged).unwrap();
    let output = command().args(&small).env("XDG_CACHE_HOME", &folder.0).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains(other) && stdout.contains("tuned before: 1 row, from") && stdout.contains("tuning-"), "{stdout}");
    assert_eq!(kept().1, forged);
    fs::write(&file, "{").unwrap();
    run();
    assert!(serde_json::from_str::<Value>(&kept().1).is_ok());
}
