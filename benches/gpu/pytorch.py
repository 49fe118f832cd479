#!/usr/bin/env python3
"""PyTorch on what `run` measures: the cases of tidegate's results, one product, a character model, and a step of many agents."""

import time

# Importing torch counts: it takes seconds.
START = time.monotonic()

import argparse  # noqa: E402
import json  # noqa: E402
import pathlib  # noqa: E402
import sys  # noqa: E402

import torch  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "peers"))
import common  # noqa: E402
import pytorch as layers  # noqa: E402
import table  # noqa: E402

# Of float64 on the CPU, as in `tidegate bench --suite recurrence`.
common.MOST_FLOPS = 1e9


def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(run, seconds=0.2):
    def waited():
        run()
        wait()

    _, times = common.measure(waited, seconds)
    return sorted(times)[len(times) // 2]


def product(size, at):
    for name, dtype, tf32 in [("f32", torch.float32, False), ("tf32", torch.float32, True), ("f16", torch.float16, False)]:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.rand(size, size, device=at).to(dtype) - 0.5 for _ in range(2))
        ms = milliseconds(lambda: torch.mm(a, b))
        yield {"dtype": name, "ms": ms, "tflops": 2 * size**3 / ms * 1e-9}


def char_lm(at, steps, hidden=128, batch=32, seq=64, tokens=70, embedding=32):
    """Characters a second of training with Adam and clipping, in f32."""
    torch.backends.cudnn.allow_tf32 = False
    embed, rnn, head = torch.nn.Embedding(tokens, embedding), torch.nn.LSTM(embedding, hidden), torch.nn.Linear(hidden, tokens)
    modules = torch.nn.ModuleList([embed, rnn, head]).to(at)
    adam = torch.optim.Adam(modules.parameters(), fused=at == "cuda")
    text = torch.randint(tokens, (seq + 1, batch), device=at)
    state = tuple(torch.zeros(1, batch, hidden, device=at) for _ in range(2))

    def step():
        output, _ = rnn(embed(text[:-1]), state)
        loss = torch.nn.functional.cross_entropy(head(output).flatten(0, 1), text[1:].flatten())
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        adam.step()

    for _ in range(min(steps, 100)):
        step()
    wait()
    start, steps = time.perf_counter(), min(steps, 500)
    for _ in range(steps):
        step()
    wait()
    return steps * batch * seq / (time.perf_counter() - start)


def agents(at, rows=10_000, block=5):
    """Milliseconds of one step of a GRU for so many agents, by blocks as the example has them."""
    rnn = torch.nn.GRU(16, 64).to(at)
    x, state = torch.rand(1, rows, 16, device=at), torch.zeros(1, rows, 64, device=at)

    @torch.inference_mode()
    def run():
        now = state
        for _ in range(block):
            _, now = rnn(x, now)

    return milliseconds(run) / block


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=pathlib.Path, help="what `tidegate bench --json` wrote: its cases")
    parser.add_argument("--product", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--budget", type=float, default=40, help="start no case after so many seconds")
    parser.add_argument("--json", type=pathlib.Path, required=True)
    args, start = parser.parse_args(), time.monotonic()
    on_cuda = torch.cuda.is_available()
    at = "cuda" if on_cuda else "cpu"
    driver = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    device = {"device": torch.cuda.get_device_name() if on_cuda else common.cpu(), "backend": at, "driver": driver}
    device["device_type"] = "discrete-gpu" if on_cuda else "cpu"
    host = {"cpu": common.cpu(), "load_average": None}
    found = {"schema": 1, "tidegate_version": None, "peer": "pytorch", "versions": {"torch": torch.__version__}, "host": host}
    found |= {"results": [], "products": []}

    def keep():
        args.json.write_text(json.dumps(found, indent=1))

    found["char_lm"] = char_lm(at, args.steps)
    found["agents"] = agents(at)
    keep()
    found["products"] += product(args.product, at)
    keep()
    cases = json.loads(args.results.read_text())["results"] if args.results and args.results.exists() else []
    known = dict.fromkeys(table.flags(case) for case in cases)
    words = common.parser(None)
    # Cases grow: the next takes as long as the longest so far, or twice as long.
    longest = 0
    for flags in known:
        begin = time.monotonic()
        if begin - START + 2 * longest > args.budget:
            print(f"out of time before {flags}")
            break
        case = common.parse(words, ["--seconds", "0.1", *flags.split()])
        try:
            found["results"] += layers.measure(case, case.modes[0], device)
        except RuntimeError as error:
            found["results"].append(common.entry(case, case.modes[0], device, note=str(error).splitlines()[0]))
        longest = max(longest, time.monotonic() - begin)
        keep()


if __name__ == "__main__":
    main()
