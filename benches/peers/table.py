#!/usr/bin/env python3
"""The table of `run`, out of the JSON files in a folder. Standard library only."""

import json
import os
import pathlib
import sys

KEYS = ["cell", "I", "H", "L", "D", "T", "B", "mode"]


def default_device(listed):
    """Number of the adapter that tidegate prefers."""
    devices = json.load(listed)
    devices = devices["devices"] if isinstance(devices, dict) else devices
    return next(str(device["id"]) for device in devices if device["default"])


def flags(result):
    """A case as the command line of a peer."""
    names = {"cell": "cell", "I": "input", "H": "hidden", "L": "layers", "T": "seq", "B": "batch", "mode": "mode"}
    words = [f"--{flag} {result[key]}" for key, flag in names.items()]
    return " ".join(words + ["--bidirectional"] * (result["D"] == 2))


def case_name(result):
    extra = (f" L={result['L']}" if result["L"] > 1 else "") + (" D=2" if result["D"] == 2 else "")
    return f"{result['cell']} I={result['I']} H={result['H']}{extra} T={result['T']} B={result['B']} {result['mode']}"


def digits(value, suffix=""):
    return "-" if value is None else f"{value:.3g}{suffix}" if value < 1000 else f"{value:.0f}{suffix}"


def check(result):
    if result["ms_median"] is None:
        return result.get("note") or "failed"
    return f"{result['max_rel_err']:.1e}" if result["verified"] else f"WRONG: {result['max_rel_err']:.1e}"


def rows(reports, cut_off):
    """For each case tidegate first, then its peers with their ratios to it, then what is published of it."""
    grouped = {}
    for peer, report in reports:
        for result in report["results"]:
            grouped.setdefault(tuple(result[key] for key in KEYS), []).append((peer, result))
    for results in grouped.values():
        first = results[0][1]
        # Peers know of no recurrence alone: they run its one input feature as any other layer.
        name = case_name(first) + ("" if first["includes_input"] else ", recurrence alone")
        own = next((result["ms_median"] for peer, result in results if peer == "tidegate"), None)
        ratio = lambda ms: digits(ms / own if own and ms else None, "x")
        for peer, result in results:
            program = f"{peer} ({result['strategy']})" if peer == "tidegate" else f"{peer} {result['backend']}"
            times = [digits(result["ms_median"]), digits(result["ms_min"]), ratio(result["ms_median"]), str(result["runs"])]
            yield [name, program, result["dtype"], *times, check(result)]
        for peer, why in cut_off.get(flags(first), []):
            yield [name, peer, "", "-", "-", "-", "-", why]
        if published := first.get("published_ms"):
            yield [name, "V100, cuDNN 7.6.2, published", "f32", digits(published), "-", ratio(published), "-", ""]


def print_table(header, lines):
    widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
    previous = None
    for line in [header, *lines]:
        cells = ["" if line[0] == previous else line[0], *line[1:]]
        right = range(3, 7)
        print("  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(cells, widths))).rstrip())
        previous = line[0]


def read_cut_off(path):
    """What `run` noted of peers that did not end in time: by case, who and why."""
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        peer, why, case = line.split("\t")
        found.setdefault(case, []).append((peer, why))
    return found


def main(folder):
    reports = []
    for path in [folder / "tidegate.json", *sorted(folder.glob("*-[0-9]*.json"))]:
        report = json.loads(path.read_text())
        reports.append((report.get("peer", "tidegate"), report))
    header = ["case", "program", "dtype", "median ms", "min ms", "ratio", "runs", "error or why not"]
    print_table(header, list(rows(reports, read_cut_off(folder / "cut_off.tsv"))))

    host = reports[0][1]["host"]
    print(f"\nratio: median to tidegate's median, above 1 = slower than tidegate\n{host['cpu']}, {host['cpus']} CPUs, {host['os']} {host['arch']}")
    print(f"load average now {os.getloadavg()[0]:.1f}; when measured, by program: ", end="")
    loads, versions, devices, empty = {}, {}, {}, []
    for peer, report in reports:
        versions[peer] = report.get("versions") or {"tidegate": report["tidegate_version"]}
        loads.setdefault(peer, []).append(report["host"].get("load_average"))
        empty.append(report["host"].get("empty_ms"))
        for result in report["results"]:
            devices.setdefault(peer, set()).add(f"{result['device']} ({result['backend']}, {result['driver'] or 'driver not told'})")
    known = {peer: [load for load in values if load is not None] for peer, values in loads.items()}
    print(", ".join(f"{peer} {min(values):.1f} to {max(values):.1f}" for peer, values in known.items() if values) or "-")
    for peer in versions:
        print(f"{peer}: {', '.join(f'{name} {version}' for name, version in versions[peer].items())}; on {'; '.join(sorted(devices[peer]))}")
    empty = [ms for ms in empty if ms is not None]
    if empty:
        print(f"one addition of one number by onnxruntime-webgpu, submitted, waited for and read back: {min(empty):.3g} ms")
    missing = folder / "missing.txt"
    if missing.exists():
        print("missing:\n  " + missing.read_text().strip().replace("\n", "\n  "))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--default-device"]:
            print(default_device(sys.stdin))
        case ["--cases", path]:
            print("\n".join(flags(result) for result in json.loads(pathlib.Path(path).read_text())["results"]))
        case [path]:
            main(pathlib.Path(path))
        case _:
            sys.exit(__doc__)
