//! Reports: `bench --html`, `compare`, `bench --fail-if-slower-than`, and what Ctrl-C leaves.
#![cfg(feature = "cli")]

mod common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use common::command::{Folder, command, fail, succeed, tidegate};
use serde_json::{Value, json};

const SMALL: [&str; 13] =
    ["bench", "--cell", "lstm", "--input", "3", "--hidden", "8", "--seq", "4", "--batch", "2", "--device", "cpu"];

/// One result, as the oldest files have them.
fn result(device: &str, device_type: &str, hidden: u64, ms: Value) -> Value {
    json!({
        "device": device, "backend": "vulkan", "driver": "1.0", "device_type": device_type, "cell": "lstm", "mode": "infer",
        "I": hidden, "H": hidden, "L": 1, "D": 1, "T": 16, "B": 2, "dtype": "f32", "strategy": "resident", "ms_median": ms,
        "verified": true,
    })
}

fn report(results: &[Value]) -> Value {
    json!({ "schema": 1, "tidegate_version": "0.0.9", "results": results })
}

fn write(folder: &Folder, name: &str, value: &Value) -> PathBuf {
    let path = folder.path(name);
    fs::write(&path, value.to_string()).unwrap();
    path
}

/// The data of a page, which must need no network.
fn data(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    assert!(!text.contains("https:") && !text.replace("http://www.w3.org/2000/svg", "").contains("http:"));
    let (_, rest) = text.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn args<'a>(command: &'a str, files: &'a [PathBuf], more: &'a [&str]) -> Vec<&'a OsStr> {
    [OsStr::new(command)].into_iter().chain(files.iter().map(|f| f.as_os_str())).chain(more.iter().map(OsStr::new)).collect()
}

/// Three machines: B is half as fast at 8 units, twice as fast at 16, and alone at 32; C failed at 8 units.
fn machines(folder: &Folder) -> [PathBuf; 3] {
    let a = report(&[result("Arc", "discrete-gpu", 8, json!(1.0)), result("Arc", "discrete-gpu", 16, json!(4.0))]);
    let b = [(8, 2.0), (16, 2.0), (32, 9.0)].map(|(hidden, ms)| result("Big </script><b>", "discrete-gpu", hidden, json!(ms)));
    let c = report(&[result("Chip", "cpu", 8, Value::Null), result("Chip", "cpu", 16, json!(3.0))]);
    [write(folder, "a.json", &a), write(folder, "b.json", &report(&b)), write(folder, "c.json", &c)]
}

#[test]
fn compare_matches_rows_by_case() {
    let folder = Folder::new();
    let files = machines(&folder);
    let text = succeed(args("compare", &files, &[]));
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let row = |case: &str| {
        let line = text.lines().find(|line| line.contains(case)).unwrap_or_else(|| panic!("{case} in {text}"));
        line.split_whitespace().skip(6).map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(row("lstm I=8 "), ["1.00", "2.00", "×2.00", "-", "-"]);
    assert_eq!(row("lstm I=16 "), ["4.00", "2.00", "×0.500", "3.00", "×0.750"]);
    assert_eq!(row("lstm I=32 "), ["-", "9.00", "-", "-", "-"]);
    // Sentences are wrapped.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("0 (base): Arc; a: tidegate 0.0.9"), "{text}");
    assert!(text.contains("Big </script><b>: ×1.00 in the geometric mean of 2 cases"), "{text}");
    assert!(text.contains("Chip: ×0.750 in the one case"), "{text}");
    // 2·4·16·(16 + 16)·16·2 FLOPs.
    assert!(text.contains("Arc: slower than Chip in 1 of 1 cases that both ran, the largest of them lstm I=16 H=16"), "{text}");
    assert!(text.contains("0.000131 GFLOP a run: 4.000 ms, Chip 3.000 ms"), "{text}");
    assert!(text.contains("Big </script><b>: faster than Chip in all 1 cases"), "{text}");
    for base in ["1", "big", "b"] {
        let text = succeed(args("compare", &files, &["--base", base]));
        assert!(text.contains("1 (base): Big") && text.contains("Arc: ×1.00 in the geometric mean"), "{text}");
    }
    assert!(fail(args("compare", &files, &["--base", "3"])).contains("2: Chip"));
    assert!(fail(args("compare", &files, &["--base", "zzz"])).contains("`zzz`"));
    assert!(fail(args("compare", &files, &["--base", "i"])).contains("ambiguous"));
    // The same file twice, and one device with two ways to store: each has a name of its own.
    let half = json!({ "dtype": "f16" }).as_object().unwrap().clone();
    let mut halves = result("Arc", "discrete-gpu", 8, json!(0.5));
    halves.as_object_mut().unwrap().extend(half);
    let halves = write(&folder, "halves.json", &report(&[halves]));
    let text = succeed(args("compare", &[files[0].clone(), files[0].clone(), halves], &[]));
    for label in ["0 (base): Arc, f32; a", "1: Arc, f32 (2); a", "2: Arc, f16; halves", "×0.500"] {
        assert!(text.contains(label), "{label} in {text}");
    }
}

/// Medians of 1.00 ± 4 % and 1.07 ± 4 % may be the same; without what they vary by they are not.
#[test]
fn differences_within_noise_are_equal() {
    let folder = Folder::new();
    let file = |name: &str, ms: f64, spread: Value| {
        let mut result = result("Arc", "discrete-gpu", 8, json!(ms));
        result["ms_median_spread"] = spread;
        write(&folder, name, &report(&[result]))
    };
    let compared = |spread: Value| {
        let files = [file("a.json", 1.0, spread.clone()), file("b.json", 1.07, spread)];
        let text = succeed(args("compare", &files, &[]));
        text.lines().find(|line| line.contains("lstm I=8")).unwrap().split_whitespace().last().unwrap().to_string()
    };
    assert_eq!([compared(json!(0.04)), compared(json!(0.02)), compared(Value::Null)], ["equal", "×1.07", "×1.07"]);
}

/// What this repository has kept: files from before most fields, and those of the peers' scripts.
#[test]
fn compare_takes_every_file_that_was_ever_written() {
    let folder = common::path("benches/results");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(files.len() >= 8);
    let page = Folder::new().path("page.html");
    fs::create_dir_all(page.parent().unwrap()).unwrap();
    succeed(args("compare", &files, &["--html", page.to_str().unwrap()]));
    let data = data(&page);
    fs::remove_dir_all(page.parent().unwrap()).unwrap();
    let programs: Vec<&str> = data["columns"].as_array().unwrap().iter().map(|c| c["program"].as_str().unwrap()).collect();
    for program in ["tidegate", "pytorch", "onnxruntime-cpu", "onnxruntime-webgpu"] {
        assert!(programs.contains(&program), "{program} in {programs:?}");
    }
    // A recurrence alone is the peers' layer of one input feature.
    let cases = data["cases"].as_array().unwrap();
    let shared = cases.iter().find(|case| case["name"] == "lstm I=1 H=512 T=25 B=16 infer").unwrap();
    let timed = shared["rows"].as_array().unwrap().iter().filter(|row| row["ms_median"].is_f64());
    assert!(timed.count() >= 3, "{shared}");
}

#[test]
fn compare_refuses_what_is_no_report() {
    let folder = Folder::new();
    let spoilt = |field: &str, value: Value| {
        let mut entry = result("Arc", "discrete-gpu", 8, json!(1.0));
        if value == "absent" {
            entry.as_object_mut().unwrap().remove(field)
        } else {
            entry.as_object_mut().unwrap().insert(field.into(), value)
        };
        report(&[result("Arc", "discrete-gpu", 16, json!(1.0)), entry]).to_string()
    };
    let whole = report(&[result("Arc", "discrete-gpu", 8, json!(1.0))]).to_string();
    for (text, named) in [
        ("{\"schema\": 1, \"results\": [{\"dev".into(), &["not JSON", "line 1"][..]),
        ("[]".into(), &["expected an object", "list of 0"]),
        ("{\"devices\": []}".into(), &["`results`: missing"]),
        (whole.replace("\"schema\":1", "\"schema\":2"), &["`schema`", "up to 1", "found 2"]),
        ("{\"results\": 3}".into(), &["`results`: expected a list, found 3"]),
        ("{\"results\": [3]}".into(), &["`results[0]`: expected an object, found 3"]),
        ("{\"runs\": [{\"results\": []}, {\"peer\": 1, \"results\": []}]}".into(), &["`runs[1].peer`: expected text, found 1"]),
        (spoilt("H", json!("wide")), &["`results[1].H`: expected a whole number, found \"wide\""]),
        (spoilt("T", json!(-4)), &["`results[1].T`: expected a whole number, found -4"]),
        (spoilt("device", json!("absent")), &["`results[1].device`: missing"]),
        (spoilt("cell", json!("absent")), &["`results[1].cell`: missing"]),
        (spoilt("ms_median", json!(0)), &["`results[1].ms_median`: expected a number above 0, found 0"]),
        (spoilt("ms_median", json!([1])), &["`results[1].ms_median`", "a list of 1"]),
        (spoilt("verified", json!("yes")), &["`results[1].verified`: expected true or false, found \"yes\""]),
    ] {
        fs::write(folder.path("wrong.json"), &text).unwrap();
        fs::write(folder.path("whole.json"), &whole).unwrap();
        let line = fail(args("compare", &[folder.path("whole.json"), folder.path("wrong.json")], &[]));
        for name in [&["wrong.json: "][..], named].concat() {
            assert!(line.contains(name), "expected {name} in: {line}");
        }
    }
    assert!(fail(args("compare", &[folder.path("none.json")], &[])).contains("none.json"));
    assert!(fail(["compare"]).contains("FILES"));
    fs::write(folder.path("empty.json"), "{\"results\": []}").unwrap();
    assert!(fail(args("compare", &[folder.path("empty.json")], &[])).contains("empty.json: no results"));
}

#[test]
fn pages_hold_what_the_files_say() {
    let folder = Folder::new();
    let (files, page) = (machines(&folder), folder.path("page.html"));
    succeed(args("compare", &files, &["--base", "chip", "--html", page.to_str().unwrap()]));
    let data = data(&page);
    assert_eq!(data["base"], 2);
    assert_eq!(data["columns"][1]["label"], "Big </script><b>");
    assert_eq!(data["cases"][1]["name"], "lstm I=16 H=16 T=16 B=2 infer");
    let ms: Vec<&Value> = (0..3).map(|column| &data["cases"][1]["rows"][column]["ms_median"]).collect();
    assert_eq!(ms, [&json!(4.0), &json!(2.0), &json!(3.0)]);
    // Two script elements, whatever devices are called.
    assert_eq!(fs::read_to_string(&page).unwrap().matches("</script>").count(), 2);
}

#[test]
fn bench_says_how_stable_a_median_is() {
    let folder = Folder::new();
    let [json, page] = ["bench.json", "bench.html"].map(|name| folder.path(name));
    let files = [OsStr::new("--json"), json.as_os_str(), OsStr::new("--html"), page.as_os_str()];
    let brief = succeed(SMALL.iter().map(OsStr::new));
    assert!(brief.contains(" ± ") && !brief.contains("first ms") && brief.contains("--wide shows more"), "{brief}");
    assert!(brief.lines().all(|line| line.chars().count() <= 80), "{brief}");
    let text = succeed(SMALL.iter().chain(&["--wide"]).map(OsStr::new).chain(files));
    assert!(text.contains(" ± ") && text.contains("first ms") && !text.contains("--wide"), "{text}");
    for path in [&json, &page] {
        assert!(text.contains(&format!("wrote {}: ", path.display())), "{text}");
    }
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!((&report["interrupted"], &report["against"]), (&json!(false), &Value::Null));
    assert!(report["unix_time"].as_u64().unwrap() > 1_700_000_000);
    let data = data(&page);
    for (at, result) in report["results"].as_array().unwrap().iter().enumerate() {
        let spread = result["ms_median_spread"].as_f64().unwrap();
        assert!(spread > 0.0 && spread < 10.0 && result["first_ms"].as_f64().unwrap() > 0.0, "{result}");
        let row = &data["cases"][at]["rows"][0];
        for field in ["ms_median", "ms_median_spread", "first_ms", "runs", "gflops"] {
            assert_eq!(row[field], result[field], "{field}");
        }
    }
}

/// A base made from what this machine measured, all times multiplied.
fn base(folder: &Folder, factor: f64) -> (PathBuf, Value) {
    let own = folder.path("own.json");
    if !own.exists() {
        succeed(SMALL.iter().map(OsStr::new).chain([OsStr::new("--json"), own.as_os_str()]));
    }
    let mut report: Value = serde_json::from_slice(&fs::read(&own).unwrap()).unwrap();
    for result in report["results"].as_array_mut().unwrap() {
        result["ms_median"] = json!(result["ms_median"].as_f64().unwrap() * factor);
    }
    (write(folder, "base.json", &report), report)
}

fn against(base: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let gate = [OsStr::new("--fail-if-slower-than"), base.as_os_str()];
    let output = tidegate(SMALL.iter().map(OsStr::new).chain(gate).chain(more.iter().map(OsStr::new)));
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), stdout, stderr)
}

/// Factors far beyond any noise.
#[test]
fn bench_fails_where_it_is_slower_than_a_base() {
    let folder = Folder::new();
    let (path, _) = base(&folder, 1e3);
    let (status, stdout, stderr) = against(&path, &["--tolerance", "10%"]);
    assert_eq!((status, &*stderr), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("tolerance 10 %: 0 of 2 matched cases are slower"), "{stdout}");

    let (path, mut report) = base(&folder, 1e-3);
    let json = folder.path("now.json");
    let (status, stdout, stderr) = against(&path, &["--tolerance", "0.1", "--json", json.to_str().unwrap()]);
    assert_eq!(status, Some(3), "{stdout}{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains("2 of 2 cases are slower than in"), "{stderr}");
    assert!(stdout.contains("CPU reference, lstm I=3 H=8 T=4 B=2 infer: ") && stdout.contains(" %) instead of "), "{stdout}");
    let now: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let verdict = &now["against"];
    assert_eq!((&verdict["compared"], &verdict["tolerance"]), (&json!(2), &json!(0.1)));
    let slower = &verdict["slower"][1];
    assert_eq!(slower["case"], "lstm I=3 H=8 T=4 B=2 train");
    assert_eq!(slower["ms"], now["results"][1]["ms_median"]);
    // A number read from JSON may be off by its last digit.
    let [found, base] = [&slower["base_ms"], &report["results"][1]["ms_median"]].map(|ms| ms.as_f64().unwrap());
    assert!((found / base - 1.0).abs() < 1e-12, "{found} for {base}");
    // A tolerance of its own would have let it pass: 1000 times as slow and more is too slow by 99900 %.
    let (status, ..) = against(&path, &["--tolerance", "10000000%"]);
    assert_eq!(status, Some(0));

    // One case in common; then none, by the shape or by the device.
    report["results"][0]["T"] = json!(5);
    let (status, stdout, _) = against(&write(&folder, "base.json", &report), &[]);
    assert_eq!(status, Some(3));
    let text = ["1 of 1 matched cases", "not in ", ": CPU reference, lstm I=3 H=8 T=4 B=2 infer", "1 cases of ", "were not run"];
    assert!(text.iter().all(|part| stdout.contains(part)), "{stdout}");
    report["results"][1]["device"] = json!("another");
    let (status, _, stderr) = against(&write(&folder, "base.json", &report), &[]);
    assert_eq!(status, Some(1));
    assert!(stderr.contains("no measured case is in") && stderr.contains("another (cpu)"), "{stderr}");
}

#[test]
fn bench_refuses_a_wrong_base_before_it_measures() {
    let folder = Folder::new();
    fs::write(folder.path("wrong.json"), "{\"results\": [{}]}").unwrap();
    let small = |more: &[&str]| SMALL.iter().chain(more).map(OsString::from).collect::<Vec<_>>();
    let wrong = folder.path("wrong.json");
    let line = fail(small(&["--fail-if-slower-than", wrong.to_str().unwrap()]));
    assert!(line.contains("wrong.json: `results[0].device`: missing"), "{line}");
    for (tolerance, named) in [("ten", "ten"), ("-1%", "-1%"), ("NaN", "NaN"), ("10", "1000%"), ("inf%", "inf%")] {
        let flag = format!("--tolerance={tolerance}");
        let output = tidegate(small(&["--fail-if-slower-than", wrong.to_str().unwrap(), &flag]));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && stderr.contains(named), "{stderr}");
    }
    assert!(fail(small(&["--tolerance", "5%"])).contains("--fail-if-slower-than"));
}

/// Nothing asked is answered by help, something misspelt by what was meant.
#[test]
fn the_command_helps() {
    let help = succeed::<&str>([]);
    assert!(["Usage: tidegate", "devices", "compare", "bench"].iter().all(|text| help.contains(text)), "{help}");
    for (args, meant) in [
        (&["bench", "--deivce", "0"][..], "did you mean --device?"),
        (&["bnech"], "did you mean bench?"),
        (&["bench", "--suite", "quik"], "did you mean quick?"),
    ] {
        let line = fail(args);
        assert!(line.contains(meant) && line.contains(args[args.len() - 1].trim_end_matches('0')), "{line}");
    }
    assert!(!fail(["bench", "--zzz"]).contains("did you mean"));
}

#[test]
fn help_tells_the_exit_statuses() {
    let help = succeed(["bench", "--help"]);
    for status in ["0 all ran", "1 something failed", "2 the", "3 a case is slower", "130 ended by Ctrl-C"] {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(status), "{status} in {help}");
    }
}

/// The files of what ran before are whole, and nothing after it runs.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_measured() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let folder = Folder::new();
    let [json, page] = ["bench.json", "bench.html"].map(|name| folder.path(name));
    let mut bench = command();
    bench.args(["bench", "--suite", "quick", "--device", "cpu", "--json"]).arg(&json).arg("--html").arg(&page);
    let child = bench.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    // It is written after every workload, the page at the end.
    while !json.exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no workload in 120 s");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert_eq!(output.status.code(), Some(130), "{stdout}{stderr}");
    let report: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let ran = report["results"].as_array().unwrap().len();
    assert!((1..16).contains(&ran) && report["interrupted"] == true, "{ran} ran");
    assert_eq!(data(&page)["cases"].as_array().unwrap().len(), ran);
    assert!(stderr.contains(&format!("interrupted after {ran} of 16 workloads")), "{stderr}");
    assert!(stdout.contains(&format!("left out, interrupted: {} of 16", 16 - ran)), "{stdout}");
}

/// What a page is asked to do once it has drawn itself, with what came of it in an element of its own.
const PROBE: &str = r#"<script>
setTimeout(() => {
  const found = {};
  const first = () => document.querySelector(".sortable tbody th").textContent;
  const header = document.querySelector(".sortable thead th:nth-child(2)");
  const sections = [...document.querySelectorAll("main section")].filter((section) => !section.hidden);
  found.first = sections[0].querySelector("tbody").innerText.replace(/\s+/g, " ");
  found.empty = sections.filter((section) => section.innerText.trim() === (section.querySelector("h2")?.textContent ?? "")).length;
  found.seen = document.querySelector("figure > svg").getBoundingClientRect().top < innerHeight - 150;
  found.left = getComputedStyle(document.querySelector("section:nth-of-type(7) tbody td")).textAlign;
  found.charts = document.querySelectorAll("figure > svg").length;
  found.marks = [...document.querySelectorAll("figure > svg")].map((svg) => svg.querySelectorAll(".mark").length);
  found.unnamed = [...document.querySelectorAll("figure > svg, button, select, input, [role=region]")].filter(
    (item) => !(item.getAttribute("aria-label") || item.textContent.trim() || item.labels?.[0]?.textContent.trim())).length;
  header.querySelector("button").click();
  found.up = [first(), header.getAttribute("aria-sort")];
  header.querySelector("button").click();
  found.down = [first(), header.getAttribute("aria-sort")];
  const chart = document.querySelector("figure > svg");
  chart.focus();
  chart.dispatchEvent(new KeyboardEvent("keydown", { key: "End", bubbles: true }));
  found.read = chart.parentElement.querySelector("output").textContent;
  const base = document.querySelector("select");
  base.value = "1";
  base.dispatchEvent(new Event("input"));
  found.ratio = document.querySelector(".sortable tbody td:nth-child(3)").textContent;
  const filter = document.querySelector("input");
  filter.value = "h=16";
  filter.dispatchEvent(new Event("input"));
  found.filtered = document.querySelectorAll("section:nth-of-type(3) tbody tr").length;
  found.wider = document.documentElement.scrollWidth > innerWidth;
  filter.value = "nothing of this";
  filter.dispatchEvent(new Event("input"));
  found.none = document.querySelector("section:nth-of-type(2)").innerText;
  document.body.append(Object.assign(document.createElement("pre"), { id: "probe", textContent: "PROBE" + JSON.stringify(found) + "END" }));
}, 1000);
</script>"#;

#[test]
#[ignore = "needs Chromium, on PATH or as TIDEGATE_CHROMIUM: cargo test --features cli --test cli_report -- --ignored"]
fn pages_draw_in_a_browser() {
    let folder = Folder::new();
    let (files, page) = (machines(&folder), folder.path("page.html"));
    succeed(args("compare", &files, &["--html", page.to_str().unwrap()]));
    let text = fs::read_to_string(&page).unwrap();
    fs::write(&page, text.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
    let chromium = std::env::var_os("TIDEGATE_CHROMIUM").unwrap_or("chromium".into());
    for width in [400, 1400] {
        let output = std::process::Command::new(&chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
            .args(["--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", &format!("--window-size={width},900")])
            .arg(format!("--user-data-dir={}", folder.path("profile").display()))
            .arg(format!("file://{}", page.display()))
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", chromium.display()));
        let [dom, log] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(!log.contains("CONSOLE"), "{log}");
        let (_, rest) = dom.split_once("<pre id=\"probe\">PROBE").unwrap_or_else(|| panic!("the probe did not end: {log}"));
        let found = rest.split_once("END</pre>").unwrap().0.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let found: Value = serde_json::from_str(&found).unwrap();
        // Bars, time over H (of A and B, who have two sizes or more), and time over work; no device has measured its peaks.
        assert_eq!((&found["charts"], &found["marks"]), (&json!(3), &json!([6, 5, 6])), "{found}");
        assert_eq!((&found["unnamed"], &found["wider"]), (&json!(0), &json!(false)), "{found}");
        // A device a line: its time over the base's; no case here has a score.
        assert_eq!(
            (&found["first"], &found["empty"]),
            (&json!("Arc base Big </script><b> ×1.00 Chip ×0.750"), &json!(0)),
            "{found}"
        );
        assert_eq!((&found["seen"], &found["left"]), (&json!(true), &json!("left")), "{found}");
        assert!(found["none"].as_str().unwrap().contains("No case has all of these words."), "{found}");
        assert_eq!(found["up"], json!(["lstm I=8 H=8 T=16 B=2 infer", "ascending"]));
        assert_eq!(found["down"], json!(["lstm I=16 H=16 T=16 B=2 infer", "descending"]));
        assert!(
            found["read"].as_str().unwrap().starts_with("Big </script><b>: lstm I=32 H=32 T=16 B=2 infer: 9.00 ms"),
            "{found}"
        );
        assert_eq!((&found["ratio"], &found["filtered"]), (&json!("×0.500"), &json!(1)), "{found}");
    }
}
