#!/usr/bin/env python3
"""LSTM inference by onnxruntime's WebGPU execution provider (Dawn), timed as `tidegate bench` times its own."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import common

# ONNX operator and the attributes that make it the cell.
OPERATORS = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {"linear_before_reset": 1}),
    "gru_reset_before": ("GRU", {}),
    "rnn_tanh": ("RNN", {}),
    "rnn_relu": ("RNN", {"activations": ["Relu"]}),
    "rnn_linear": ("RNN", {"activations": ["Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]}),
}


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "peer", inputs, outputs, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def network(args, rng):
    """One node a layer, with initial states; several layers are joined by Transpose and Reshape."""
    operator, attributes = OPERATORS[args.cell]
    D, H, T, B = args.directions, args.hidden, args.seq, args.batch
    if D == 2 and "activations" in attributes:
        attributes = {name: values * 2 for name, values in attributes.items()}
    rows, states = common.GATES[args.cell] * H, ["h", "c"] if operator == "LSTM" else ["h"]
    uniform = lambda *shape: rng.uniform(-(H**-0.5), H**-0.5, shape).astype(np.float32)
    nodes, initializers, size, x = [], [], args.input, "x"
    for layer in range(args.layers):
        weights = {f"W{layer}": uniform(D, rows, size), f"R{layer}": uniform(D, rows, H), f"B{layer}": uniform(D, 2 * rows)}
        weights |= {f"{state}0_{layer}": rng.uniform(-1, 1, (D, B, H)).astype(np.float32) for state in states}
        initializers += [numpy_helper.from_array(array, name) for name, array in weights.items()]
        w, r, b, *initial = weights
        outputs = [f"y{layer}", *(f"{state}{layer}" for state in states)]
        direction = "bidirectional" if D == 2 else "forward"
        nodes.append(helper.make_node(operator, [x, w, r, b, "", *initial], outputs, hidden_size=H, direction=direction, **attributes))
        if layer + 1 < args.layers:
            initializers.append(numpy_helper.from_array(np.array([T, B, D * H]), f"shape{layer}"))
            nodes.append(helper.make_node("Transpose", [f"y{layer}"], [f"t{layer}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"t{layer}", f"shape{layer}"], [f"x{layer}"]))
        x, size = f"x{layer}", D * H
    outputs = [value(outputs[0], T, D, B, H), *(value(name, D, B, H) for name in outputs[1:])]
    return model(nodes, [value("x", T, B, args.input)], outputs, initializers)


def session(model, provider):
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a refusal is reported as a note
    if provider != "CPUExecutionProvider":
        # A node without a WebGPU kernel would run on the CPU, silently, and its time would be taken for the GPU's.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return ort.InferenceSession(model, options, providers=[provider])


def empty_ms(seconds):
    """Median of one addition of one number: what submitting, waiting and reading back cost at least."""
    add = model([helper.make_node("Add", ["x", "x"], ["y"])], [value("x", 1)], [value("y", 1)])
    run = session(add, "WebGpuExecutionProvider")
    one = {"x": np.ones(1, np.float32)}
    _, times = common.measure(lambda: run.run(None, one), seconds)
    return float(np.median(times))


def infer(args, device):
    if args.cell not in OPERATORS:
        return common.entry(args, "infer", device, note="not an ONNX operator")
    rng = np.random.default_rng(1)
    network_model = network(args, rng)
    x = {"x": rng.uniform(-1, 1, (args.seq, args.batch, args.input)).astype(np.float32)}
    try:
        gpu = session(network_model, "WebGpuExecutionProvider")
    except Exception as error:
        if "fallback to CPU EP" not in str(error):
            raise
        note = f"onnxruntime {ort.__version__} has no WebGPU kernel for {OPERATORS[args.cell][0]}"
        return common.entry(args, "infer", device, note=note)
    # The final hidden state alone is read back: it is the least that waits for the last step.
    final = [output.name for output in gpu.get_outputs()][1:2]
    measured = common.measure(lambda: gpu.run(final, x), args.seconds)
    cpu = session(network_model, "CPUExecutionProvider")
    pairs = zip(gpu.run(None, x), cpu.run(None, x))
    error = max(common.relative_error(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs)
    return common.entry(args, "infer", device, strategy="onnxruntime", measured=measured, error=error, tolerance=1e-4)


def main():
    args = common.parse_args(__doc__)
    if "WebGpuExecutionProvider" not in ort.get_available_providers():
        raise SystemExit("this onnxruntime has no WebGPU execution provider; the package is onnxruntime-webgpu")
    names = common.vulkan_devices()
    # The provider does not say which adapter Dawn gave it.
    device = {"device": " or ".join(name for name, _ in names) or None, "backend": "webgpu (Dawn)", "driver": None}
    device["device_type"] = names[0][1] if len(names) == 1 else None
    training = "the WebGPU execution provider has no training"
    results = [infer(args, device) if mode == "infer" else common.entry(args, mode, device, note=training) for mode in args.modes]
    versions = {"onnxruntime": ort.__version__, "onnx": onnx.__version__, "numpy": np.__version__}
    common.report(args, "onnxruntime-webgpu", versions, results, empty_ms=empty_ms(args.seconds))


if __name__ == "__main__":
    main()
