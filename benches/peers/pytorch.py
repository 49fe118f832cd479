#!/usr/bin/env python3
"""PyTorch's LSTM, GRU and RNN on the CPU and, where there is CUDA, by cuDNN, timed as `tidegate bench` times its own."""

import copy
import pathlib
import time

import torch

import common

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN}
# Name in the JSON, storage, whether products may round to TF32, and how far from float64 the results may lie.
ON_CPU = [("f32", torch.float32, False, 1e-4)]
ON_CUDA = ON_CPU + [("tf32", torch.float32, True, 2e-2), ("f16", torch.float16, False, 2e-2)]


class Network:
    """A module and its data at a shape; in float64, to be converted by `to`, unless told otherwise."""

    def __init__(self, args, shape, device="cpu", dtype=torch.float64):
        torch.manual_seed(1)
        (seq, batch), at = shape, {"device": device, "dtype": dtype}
        options = {"nonlinearity": args.cell[4:]} if args.cell.startswith("rnn") else {}
        module = MODULES[args.cell](args.input, args.hidden, args.layers, bidirectional=args.bidirectional, **at, **options)
        uniform = lambda *shape: torch.rand(shape, **at) * 2 - 1
        states = lambda: [uniform(args.layers * args.directions, batch, args.hidden) for _ in range(1 + (args.cell == "lstm"))]
        output = uniform(seq, batch, args.hidden * args.directions)
        self._set(module, uniform(seq, batch, args.input), states(), [output, *states()])

    def _set(self, module, x, initial, d_results):
        self.module, self.d_results = module, d_results
        self.inputs = [tensor.detach().requires_grad_() for tensor in [x, *initial]]

    def to(self, device, dtype):
        other, move = Network.__new__(Network), lambda tensors: [tensor.detach().to(device, dtype) for tensor in tensors]
        x, *initial = move(self.inputs)
        other._set(copy.deepcopy(self.module).to(device, dtype), x, initial, move(self.d_results))
        other.module.flatten_parameters()
        return other

    def run(self, mode):
        """Output and final states, then all gradients."""
        with torch.inference_mode(mode == "infer"):
            x, *initial = self.inputs
            output, final = self.module(x, tuple(initial) if len(initial) == 2 else initial[0])
            results = [output, *(final if isinstance(final, tuple) else [final])]
        if mode == "infer":
            return results
        return results + list(torch.autograd.grad(results, [*self.inputs, *self.module.parameters()], self.d_results))


def error(network, mode, exact, device, dtype):
    """The largest relative error of any result of a network in float64, brought to this device and type."""
    values = network.to(device, dtype).run(mode)
    return max(common.relative_error(value.detach().cpu().double(), truth.detach()) for value, truth in zip(values, exact))


def measure(args, mode, device):
    on_cuda = device["backend"] == "cuda"
    variants, wait = (ON_CUDA, torch.cuda.synchronize) if on_cuda else (ON_CPU, lambda: None)
    if args.cell not in MODULES:
        return [common.entry(args, mode, device, note=f"PyTorch has no {args.cell}")]
    shape = common.affordable(args)
    network = Network(args, shape)
    exact = network.run(mode)
    results = []
    for name, dtype, tf32, tolerance in variants:
        # What lies within a rounding of relu's kink passes its gradient on or does not: an error is then about the root of a value's.
        tolerance = tolerance**0.5 if args.cell == "rnn_relu" and mode == "train" else tolerance
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        found = error(network, mode, exact, device["backend"], dtype)
        timed = Network(args, (args.seq, args.batch), device["backend"], dtype)

        def run():
            timed.run(mode)
            wait()

        times = common.measure(run, args.seconds)
        strategy = "cudnn" if on_cuda else "torch"
        results.append(common.entry(args, mode, device, name, strategy, times, found, tolerance, verified=shape))
    return results


def main():
    parser = common.parser(__doc__)
    parser.add_argument("--cases", metavar="FILE", help="many cases in one process: their flags, a case a line")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: both, where there is CUDA")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="of many cases, start none after these")
    args, start = common.parse(parser), time.monotonic()
    threads = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    devices = [{"device": common.cpu(), "backend": "cpu", "driver": threads, "device_type": "cpu"}]
    versions = {"torch": torch.__version__}
    if torch.cuda.is_available():
        versions |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        driver = f"torch {torch.__version__}, CUDA {versions['cuda']}, cuDNN {versions['cudnn']}"
        name = torch.cuda.get_device_name()
        devices.append({"device": name, "backend": "cuda", "driver": driver, "device_type": "discrete-gpu"})
    devices = [device for device in devices if args.device in (None, device["backend"])]
    if not devices:
        raise SystemExit(f"torch {torch.__version__} finds no CUDA device")
    cases = [args]
    if args.cases:
        words = [line.split() for line in pathlib.Path(args.cases).read_text().splitlines()]
        cases = [common.parse(parser, ["--seconds", str(args.seconds), *case]) for case in words]
    results = []
    for case, mode, device in ((case, mode, device) for case in cases for mode in case.modes for device in devices):
        if args.budget and time.monotonic() - start > args.budget:
            results.append(common.entry(case, mode, device, note=f"not started within {args.budget:.0f} s"))
            continue
        try:
            results += measure(case, mode, device)
        except RuntimeError as error:  # out of memory, or what cuDNN does not support
            results.append(common.entry(case, mode, device, note=str(error).splitlines()[0]))
        if args.json:
            # What ends this early leaves the cases before.
            common.write(args, "pytorch", versions, results)
    common.report(args, "pytorch", versions, results)


if __name__ == "__main__":
    main()
