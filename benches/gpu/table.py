#!/usr/bin/env python3
"""The one table of `run`: table.py OUT SCRATCH. Standard library only."""

import json
import pathlib
import re
import sys

CASE = ["cell", "I", "H", "T", "B", "mode"]


def load(path):
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def digits(value):
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def show(header, lines):
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    for line in [header, *lines]:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip())


def by_step(result):
    """Microseconds a step, the strategy, and whether its times are to be believed."""
    if result is None:
        return "-"
    if result.get("ms_median") is None:
        return "failed"
    marks = "!" if result.get("marks") else ""
    return f"{digits(1e3 * result['ms_median'] / result['T'])}{marks} {result['strategy'] or ''}".strip()


def recurrence(report, pytorch):
    own, peers = {}, {}
    for result in report["results"]:
        own.setdefault((*(result[key] for key in CASE), result["dtype"]), {})[result.get("untuned", False)] = result
    for result in pytorch["results"] if pytorch else []:
        peers[(*(result[key] for key in CASE), result["dtype"])] = result
    lines = []
    for key, found in own.items():
        first = next(iter(found.values()))
        tuned = found.get(False)
        step = lambda ms: ms and 1e3 * ms / first["T"]
        here = peers.get(key, {}).get("ms_median")
        tf32 = peers.get((*key[:-1], "tf32"), {}).get("ms_median") if key[-1] == "f32" else None
        ms = tuned and tuned.get("ms_median")
        gpu = tuned and tuned.get("gpu_ms_median")
        ratio = f"{here / ms:.2f}x" if here and ms else "-"
        name = "{0} {2}, T {3}, B {4}, {5} {6}".format(*key)
        columns = [step(gpu), step(here), step(tf32), step(first.get("published_ms"))]
        lines.append([name, by_step(found.get(True)), by_step(tuned), *map(digits, columns), ratio])
    if lines:
        print("µs a step by wall time; the last column: cuDNN here over tidegate tuned, above 1 tidegate is faster; !: see the row's marks")
        show(["case", "untuned", "tuned", "GPU", "cuDNN", "TF32", "H200 cuDNN", "ratio"], lines)


def products(reports, pytorch):
    lines = []
    for name, report in reports.items():
        for result in report["results"]:
            if result["ms_median"] is not None:
                gpu = result["gpu_ms_median"]
                rate = 1e-3 * result["gflops"] * (result["ms_median"] / gpu if gpu else 1)
                lines.append([name, digits(result["ms_median"]), digits(gpu), digits(rate)])
            else:
                lines.append([name, "failed", "-", "-"])
    for result in (pytorch or {}).get("products", []):
        lines.append([f"cuBLAS {result['dtype']}", digits(result["ms"]), "-", digits(result["tflops"])])
    if lines:
        print("\nbulk product")
        show(["kind", "ms", "GPU ms", "TFLOP/s"], lines)


def peaks(reports):
    """The best that any of the runs found of the device."""
    names = [
        ("peak_gflops", 1e-3, "TFLOP/s f32"),
        ("peak_gflops_f16", 1e-3, "TFLOP/s f16"),
        ("peak_gflops_cooperative", 1e-3, "TFLOP/s f16 by cooperative matrices"),
        ("peak_gbytes", 1, "GB/s copied"),
        ("peak_gbytes_read", 1, "GB/s read"),
        ("peak_gbytes_write", 1, "GB/s written"),
        ("load_latency_ns", 1, "ns a load from memory"),
        ("cached_load_latency_ns", 1, "ns from a cache"),
    ]
    known = [roofline for report in reports for roofline in report.get("rooflines", [])]
    parts = []
    for name, factor, unit in names:
        values = [roofline[name] for roofline in known if roofline.get(name)]
        if values:
            parts.append(f"{digits(factor * (min if name.endswith('_ns') else max)(values))} {unit}")
    if parts:
        print(f"\npeaks: {', '.join(parts)}")


def examples(log, pytorch):
    speed = re.search(r"([0-9]+) characters/s; held-out", log)
    frame = re.search(r"([0-9.]+) ms a frame", log)
    peers = pytorch or {}
    print()
    if speed or "char_lm" in peers:
        ours = int(speed[1]) if speed else None
        print(f"char_lm, LSTM 128, B 32, T 64: {digits(ours)} characters/s; PyTorch {digits(peers.get('char_lm'))}")
    if frame or "agents" in peers:
        ours = float(frame[1]) if frame else None
        print(f"agents, 10,000 of GRU 64: {digits(ours)} ms a frame; PyTorch, the GRU's step alone {digits(peers.get('agents'))}")


def main(out, scratch):
    pytorch = load(out / "pytorch.json")
    if report := load(out / "recurrence.json"):
        recurrence(report, pytorch)
    reports = {path.stem.removeprefix("product-"): load(path) for path in sorted(scratch.glob("product-*.json"))}
    reports = {name: report for name, report in reports.items() if report}
    products(reports, pytorch)
    peaks(reports.values())
    if reports:
        # As one file, which `tidegate compare` reads too.
        (out / "products.json").write_text(json.dumps({"runs": list(reports.values())}))
    examples((out / "log.txt").read_text(), pytorch)


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:3]))
