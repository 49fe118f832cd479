#!/usr/bin/env python3
"""RNN, LSTM and GRU inference by onnxruntime's CPU execution provider, timed as `tidegate bench` times its own."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import common
from onnxruntime_webgpu import OPERATORS, network, session


def float64(model):
    """The same model with its weights, inputs and outputs in float64."""
    model = onnx.load_from_string(model)
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float64), tensor.name))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    return model


def infer(args, device):
    if args.cell not in OPERATORS:
        return common.entry(args, "infer", device, note="not an ONNX operator")
    rng = np.random.default_rng(1)
    model = network(args, rng)
    x = rng.uniform(-1, 1, (args.seq, args.batch, args.input)).astype(np.float32)
    run = session(model, "CPUExecutionProvider")
    final = [output.name for output in run.get_outputs()][1:2]
    measured = common.measure(lambda: run.run(final, {"x": x}), args.seconds)
    truth = ReferenceEvaluator(float64(model)).run(None, {"x": x.astype(np.float64)})
    pairs = zip(run.run(None, {"x": x}), truth)
    error = max(common.relative_error(a.astype(np.float64), b) for a, b in pairs)
    return common.entry(args, "infer", device, strategy="onnxruntime", measured=measured, error=error, tolerance=1e-5)


def main():
    args = common.parse_args(__doc__)
    device = {"device": common.cpu(), "backend": "cpu", "driver": None, "device_type": "cpu"}
    training = "onnxruntime's inference package has no training"
    results = [infer(args, device) if mode == "infer" else common.entry(args, mode, device, note=training) for mode in args.modes]
    versions = {"onnxruntime": ort.__version__, "onnx": onnx.__version__, "numpy": np.__version__}
    common.report(args, "onnxruntime-cpu", versions, results)


if __name__ == "__main__":
    main()
