"""What the peers in Python share: the command line of one case, timing, and the JSON of `tidegate bench --json`."""

import argparse
import ctypes
import json
import os
import platform
import statistics
import sys
import time

# Blocks of H rows in each weight.
GATES = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "rnn_tanh": 1, "rnn_relu": 1, "rnn_linear": 1}
# FLOPs that a reference may take, as in `tidegate bench`.
MOST_FLOPS = 2e10


def parser(description):
    """The flags that `tidegate bench` has for a workload of one's own, and how long to time it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--cell", default="lstm", choices=[*GATES, "binary_gate"])
    for name, default in [("input", 128), ("hidden", 128), ("seq", 100), ("batch", 1), ("layers", 1)]:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bidirectional", action="store_true")
    parser.add_argument("--mode", choices=["infer", "train"], help="default: both")
    parser.add_argument("--json", metavar="FILE", help="default: stdout")
    parser.add_argument("--seconds", type=float, default=2, help="least time of a case's timed runs")
    return parser


def parse_args(description):
    return parse(parser(description))


def parse(parser, words=None):
    """The words of one case, by default those of the command line."""
    args = parser.parse_args(words)
    args.directions = 2 if args.bidirectional else 1
    args.modes = [args.mode] if args.mode else ["infer", "train"]
    return args


# As in `tidegate bench`: blocks of so many seconds until their medians stop falling by a fiftieth, at least and at most so long.
BLOCK, LEAST_WARM_UP, MOST_WARM_UP, CHANGE = 0.05, 0.3, 3.0, 0.02


def warm_up(run):
    """Runs until that is no longer getting faster: an idle GPU lowers its clock, and takes some 100 ms of work to raise it again."""
    start, level, steady = time.perf_counter(), float("inf"), 0
    while True:
        block, times = time.perf_counter(), []
        while not times or time.perf_counter() - block < BLOCK:
            times.append(_milliseconds(run))
        typical, elapsed = statistics.median(times), time.perf_counter() - start
        steady += 1
        if typical < level * (1 - CHANGE):
            level, steady = typical, 0
        if steady >= 3 and elapsed >= LEAST_WARM_UP or elapsed >= MOST_WARM_UP:
            return


def measure(run, seconds):
    """Milliseconds of `run`, which has to wait for its own results: (first, all the timed ones).

    Compiling belongs to the first run. At least 20 runs and so many seconds are timed, unless that takes 15 times as long.
    """
    first = _milliseconds(run)
    warm_up(run)
    times, start = [], time.perf_counter()
    while len(times) < 5 or (elapsed := time.perf_counter() - start) < seconds or len(times) < 20 and elapsed < 15 * seconds:
        times.append(_milliseconds(run))
    return first, times


def _milliseconds(run):
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def relative_error(values, reference):
    """Relative L2 error of float64 arrays."""
    return float(((values - reference) ** 2).sum() ** 0.5 / max((reference**2).sum() ** 0.5, 1e-30))


def flops(args, mode):
    """As `tidegate bench` counts: the products alone; backward costs twice what forward does."""
    inputs = [args.input] + [args.hidden * args.directions] * (args.layers - 1)
    row = sum(2 * GATES[args.cell] * args.hidden * (args.hidden + n) * args.directions for n in inputs)
    return row * args.seq * args.batch * (3 if mode == "train" else 1)


def affordable(args):
    """(T, B) that a reference can take forward and backward: as many as fit, by the rule of `tidegate bench`."""
    rows = int(MOST_FLOPS * args.seq * args.batch / flops(args, "train"))
    batch = min(args.batch, max(1, rows // min(args.seq, 32)))
    return min(args.seq, max(1, rows // batch)), batch


def entry(args, mode, device, dtype="f32", strategy=None, measured=None, error=None, tolerance=None, note=None, verified=None):
    """One result. `device` holds device, backend, driver and device_type; `verified` is the (T, B) at which the error was found, if not
    the case's own; `note` says why nothing was measured.
    """
    result = dict(device)
    result |= {"cell": args.cell, "mode": mode, "I": args.input, "H": args.hidden, "L": args.layers, "D": args.directions}
    result |= {"T": args.seq, "B": args.batch, "dtype": dtype, "strategy": strategy, "dispatches": None, "includes_input": True}
    first, times = measured or (None, [])
    median = statistics.median(times) if times else None
    result |= {"ms_median": median, "ms_min": min(times, default=None), "gpu_ms_median": None, "runs": len(times)}
    result |= {"gflops": flops(args, mode) / median * 1e-6 if median else None, "roofline_fraction": None}
    seq, batch = (verified or (args.seq, args.batch)) if times else (None, None)
    result |= {"verified": error is not None and error <= tolerance, "verified_T": seq, "verified_B": batch}
    return result | {"max_rel_err": error, "first_ms": first, "note": note}


def report(args, peer, versions, results, **host):
    """Prints the one object, or writes it, and ends."""
    write(args, peer, versions, results, **host)
    sys.exit(any(r["ms_median"] is not None and not r["verified"] for r in results))


def write(args, peer, versions, results, **host):
    host = {"os": platform.system().lower(), "arch": platform.machine(), "cpus": len(os.sched_getaffinity(0)), "cpu": cpu()} | host
    host["load_average"] = os.getloadavg()[0]
    versions = {"python": platform.python_version()} | versions
    text = json.dumps(
        {"schema": 1, "tidegate_version": None, "peer": peer, "versions": versions, "host": host, "results": results}, indent=2
    )
    if args.json:
        with open(args.json, "w") as file:
            print(text, file=file)
    else:
        print(text)


def cpu():
    """The processor's own name, on Linux."""
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), None)
    except OSError:
        return None


def vulkan_devices():
    """(name, type) of each Vulkan device, for peers that do not say which one they took. Empty without a Vulkan loader."""
    types = ["other", "integrated-gpu", "discrete-gpu", "virtual-gpu", "software"]
    try:
        vulkan = ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return []
    # VkInstanceCreateInfo: sType 1 and all the rest zero.
    info, instance = (ctypes.c_uint64 * 8)(1), ctypes.c_void_p()
    if vulkan.vkCreateInstance(info, None, ctypes.byref(instance)):
        return []
    count = ctypes.c_uint32()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    devices = (ctypes.c_void_p * count.value)()
    vulkan.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
    found = []
    for device in devices:
        # VkPhysicalDeviceProperties: five u32, of which the last is the type, then the name; 824 bytes in all.
        properties = ctypes.create_string_buffer(1024)
        vulkan.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), properties)
        found.append((properties.raw[20:276].split(b"\0")[0].decode(), types[int.from_bytes(properties.raw[16:20], sys.byteorder)]))
    vulkan.vkDestroyInstance(instance, None)
    return found
