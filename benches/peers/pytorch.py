#!/usr/bin/env python3
"""PyTorch's LSTM, GRU and RNN on the CPU and, where there is CUDA, by cuDNN, timed as `tidegate bench` times its own."""

import copy

import torch

import common

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN}
# Name in the JSON, storage, whether products may round to TF32, and how far from float64 the results may lie.
ON_CPU = [("f32", torch.float32, False, 1e-4)]
ON_CUDA = ON_CPU + [("tf32", torch.float32, True, 2e-2), ("f16", torch.float16, False, 2e-2)]


class Network:
    """A module and its data, in float64 until `to`."""

    def __init__(self, args):
        torch.manual_seed(1)
        options = {"nonlinearity": args.cell[4:]} if args.cell.startswith("rnn") else {}
        module = MODULES[args.cell](
            args.input, args.hidden, args.layers, bidirectional=args.bidirectional, dtype=torch.float64, **options
        )
        uniform = lambda *shape: torch.rand(shape, dtype=torch.float64) * 2 - 1
        states = lambda: [uniform(args.layers * args.directions, args.batch, args.hidden) for _ in range(1 + (args.cell == "lstm"))]
        output = uniform(args.seq, args.batch, args.hidden * args.directions)
        self._set(module, uniform(args.seq, args.batch, args.input), states(), [output, *states()])

    def _set(self, module, x, initial, d_results):
        self.module, self.d_results = module, d_results
        self.inputs = [tensor.detach().requires_grad_() for tensor in [x, *initial]]

    def to(self, device, dtype):
        other, move = copy.copy(self), lambda tensors: [tensor.detach().to(device, dtype) for tensor in tensors]
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


def measure(args, mode, device):
    variants, wait = (ON_CUDA, torch.cuda.synchronize) if device["backend"] == "cuda" else (ON_CPU, lambda: None)
    if args.cell not in MODULES:
        return [common.entry(args, mode, device, note=f"PyTorch has no {args.cell}")]
    network = Network(args)
    reference = network.run(mode)
    results = []
    for name, dtype, tf32, tolerance in variants:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        here = network.to(device["backend"], dtype)

        def run():
            values = here.run(mode)
            wait()
            return values

        pairs = zip(run(), reference)
        error = max(common.relative_error(value.detach().cpu().double(), exact.detach()) for value, exact in pairs)
        strategy = "cudnn" if device["backend"] == "cuda" else "torch"
        measured = common.measure(run)
        results.append(common.entry(args, mode, device, name, strategy, measured, error, tolerance))
    return results


def main():
    args = common.parse_args(__doc__)
    threads = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    devices = [{"device": common.cpu(), "backend": "cpu", "driver": threads, "device_type": "cpu"}]
    versions = {"torch": torch.__version__}
    if torch.cuda.is_available():
        versions |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        driver = f"torch {torch.__version__}, CUDA {versions['cuda']}, cuDNN {versions['cudnn']}"
        name = torch.cuda.get_device_name()
        devices.append({"device": name, "backend": "cuda", "driver": driver, "device_type": "discrete-gpu"})
    results = [result for device in devices for mode in args.modes for result in measure(args, mode, device)]
    common.report(args, "pytorch", versions, results)


if __name__ == "__main__":
    main()
