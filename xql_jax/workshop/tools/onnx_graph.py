"""Exported policies as ONNX graphs: the same arithmetic as `act.py`'s, from the same arrays."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

Weights = dict[str, np.ndarray]  # the arrays of a policy by name, see `weights_of`
OPSET = 20  # version of ONNX's operators; onnxruntime has it from 1.17 on
IR_VERSION = 9  # version of ONNX's file format; likewise


def write_onnx(weights: Weights, path: Path) -> None:
    """Writes a graph from `observations` f32[B, O] to `actions` f32[B, A]; NaN where one is not finite."""
    import onnx.parser

    arrays = dict(weights)
    low, high = weights["low"], weights["high"]
    action_dim = len(low)
    arrays["middle"], arrays["reach"] = (high + low) / 2, (high - low) / 2
    nodes = ["shifted = Sub (observations, shift)", "x_0 = Div (shifted, scale)"]
    nodes += _nodes(arrays, action_dim)
    nodes += ["wide = Mul (scaled, reach)", "moved = Add (wide, middle)"]
    nodes += ["raised = Max (moved, low)", "bounded = Min (raised, high)"]
    arrays["zeros"] = np.zeros((len(weights["shift"]), 1), np.float32)
    nodes += ["fault = MatMul (observations, zeros)", "actions = Add (bounded, fault)"]  # 0, or NaN
    model = onnx.parser.parse_model(
        f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}], producer_name: "xql_jax"> '
        f"policy (float[B, {len(weights['shift'])}] observations) => "
        f"(float[B, {action_dim}] actions) {{ {' '.join(nodes)} }}"
    )
    used = {name: x for name, x in arrays.items() if re.search(rf"\b{name}\b", " ".join(nodes))}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.ascontiguousarray(x), name) for name, x in used.items()
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _nodes(arrays: Weights, action_dim: int) -> list[str]:
    """Returns the graph from x_0 to `scaled` of one stack of layers; it may add constants to the arrays."""
    number = int(arrays["num_hidden"])
    nodes, last = [], f"x_{number}"
    for i in range(number):
        nodes += [f"h_{i} = Gemm (x_{i}, kernel_{i}, bias_{i})", f"x_{i + 1} = Relu (h_{i})"]
    nodes.append(f"action = Gemm ({last}, action_kernel, action_bias)")
    if "logits_bias" not in arrays:
        return [*nodes, "scaled = Tanh (action)"]
    arrays["shape"] = np.array([-1, len(arrays["logits_bias"]), action_dim])
    arrays["axis"] = np.array([1])
    return [
        *nodes,
        f"logits = Gemm ({last}, logits_kernel, logits_bias)",
        "best = ArgMax <axis = -1, keepdims = 0> (logits)",
        "chosen = Unsqueeze (best, axis)",
        "means = Tanh (action)",
        "split = Reshape (means, shape)",
        "scaled = GatherND <batch_dims = 1> (split, chosen)",
    ]


def read_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the policy, run by onnxruntime on the CPU: f32[B, O] to f32[B, A]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda observations: session.run(["actions"], {"observations": observations})[0]
