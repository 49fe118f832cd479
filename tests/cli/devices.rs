//! `devices`, and a machine without any.

use std::path::PathBuf;

use serde_json::Value;

use crate::common::command::{command, read, succeed};
use crate::given::Given;

#[test]
fn devices_lists_adapters_and_the_reference() {
    let listing: Value = serde_json::from_str(&succeed(["devices", "--json"])).unwrap();
    let devices = listing["devices"].as_array().unwrap();
    assert!(devices.len() >= 2, "no adapter: {devices:?}");
    assert_eq!(devices.iter().filter(|device| device["default"] == true).count(), 1);
    for (number, device) in devices[..devices.len() - 1].iter().enumerate() {
        assert_eq!(device["id"], number.to_string());
        assert!(["device", "backend", "driver", "device_type"].iter().all(|name| device[name].is_string()), "{device}");
        assert!(["immediates", "timestamps", "f16", "subgroups"].iter().all(|name| device["features"][name].is_boolean()));
        assert!(device["limits"]["max_buffer_size"].as_u64().unwrap() > 0);
        assert!(succeed(["devices"]).contains(device["device"].as_str().unwrap()));
    }
    let reference = devices.last().unwrap();
    assert_eq!((&reference["id"], &reference["device_type"]), (&"cpu".into(), &"cpu-reference".into()));
}

/// As on a machine without any adapter: wgpu is told to look for a kind that this build leaves out.
#[test]
fn without_an_adapter_the_reference_runs_and_says_so() {
    let given = Given { args: Vec::new(), ..Given::lstm() };
    given.write();
    let without = |args: &[PathBuf]| {
        let output = command().args(args).env("WGPU_BACKEND", "gl").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap())
    };
    let [stdout, stderr] = without(&given.command());
    assert!(
        stdout.starts_with("wrote ") && stderr.lines().count() == 1 && stderr.contains("mesa-vulkan-drivers"),
        "{stdout}{stderr}"
    );
    assert_eq!(read(&given.folder.path("output.safetensors"))["output"].bytes, Given::lstm().succeed()["output"].bytes);
    let [stdout, stderr] = without(&["devices".into()]);
    assert!(stdout.contains("cpu (default)") && stdout.contains("mesa-vulkan-drivers") && stderr.is_empty(), "{stdout}{stderr}");
    let bench = "bench --cell gru --input 1 --hidden 1 --seq 1 --batch 1".split(' ').map(PathBuf::from);
    let [stdout, stderr] = without(&bench.collect::<Vec<_>>());
    assert!(stdout.contains("cpu-reference") && stderr.contains("mesa-vulkan-drivers"), "{stdout}{stderr}");
}
