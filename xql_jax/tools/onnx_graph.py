"""Exported policies as ONNX graphs: the same arithmetic as `act.py`'s, from the same arrays."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from xql_jax.data.policy_files import Weights
from xql_jax.errors import needing

OPSET = 20  # version of ONNX's operators; onnxruntime has it from 1.17 on
IR_VERSION = 9  # version of ONNX's file format; likewise


def import_onnx() -> ModuleType:
    """Returns the package onnx; UserError with what to install if it is missing."""
    with needing("--formats: onnx", "export"):
        import onnx.parser
        import onnxruntime  # noqa: F401  (which reads it back)
    return onnx


def write_onnx(weights: Weights, path: Path) -> None:
    """Writes a graph with the input `observations` f32[B, O] and the output `actions` f32[B, A]."""
    onnx, arrays = import_onnx(), dict(weights)
    low, high = weights["low"], weights["high"]
    action_dim = len(low)
    arrays["middle"], arrays["reach"] = (high + low) / 2, (high - low) / 2
    nodes = ["shifted = Sub (observations, shift)", "x_0 = Div (shifted, scale)"]
    nodes += _flow_nodes(arrays) if "noise" in weights else _nodes(arrays, action_dim)
    nodes += ["wide = Mul (scaled, reach)", "moved = Add (wide, middle)"]
    nodes += ["raised = Max (moved, low)", "actions = Min (raised, high)"]
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


def _flow_nodes(arrays: Weights) -> list[str]:
    """Returns the graph from x_0 to `scaled` of a flow, see `act.py`; it adds constants to the arrays."""
    steps = int(arrays["flow_steps"])
    numbers = {f"t_{step}": step / steps for step in range(steps)}
    numbers |= {"one": 1.0, "minus": -1.0, "steps": max(steps, 1)}
    arrays |= {name: np.array(value, np.float32) for name, value in numbers.items()}
    sizes = {"first": 0, "single": 1, "count": len(arrays["noise"])}
    arrays |= {name: np.array([value]) for name, value in sizes.items()} | {"noise": arrays["noise"][:, None]}
    nodes = [
        "size = Shape <start = 0, end = 1> (x_0)",
        "by_state = Concat <axis = 0> (single, size, single)",
        "a_0 = Tile (noise, by_state)",
        "by_candidate = Concat <axis = 0> (count, single, single)",
        "x_one = Unsqueeze (x_0, first)",
        "x = Tile (x_one, by_candidate)",
        "t_shape = Concat <axis = 0> (count, size, single)",
    ]
    for step in range(steps):
        nodes += [f"time_{step} = Expand (t_{step}, t_shape)"]
        nodes += _network_nodes(arrays, "flow", f"v_{step}", f"x, a_{step}, time_{step}")
        nodes += [f"move_{step} = Div (v_{step}, steps)", f"a_{step + 1} = Add (a_{step}, move_{step})"]
    if not steps:
        nodes += _network_nodes(arrays, "flow", "a_1", "x, a_0")
    nodes += [f"raised_a = Max (a_{max(steps, 1)}, minus)", "a = Min (raised_a, one)"]
    qs = [f"value_{i}" for i in range(int(arrays["num_critics"]))]
    for i, q in enumerate(qs):
        nodes += _network_nodes(arrays, f"q{i}", q, "x, a")
    return [
        *nodes,
        f"q = Min ({', '.join(qs)})",
        "best = ArgMax <axis = 0, keepdims = 1> (q)",
        "a_shape = Shape <start = 2, end = 3> (a)",
        "index_shape = Concat <axis = 0> (single, size, a_shape)",
        "index = Expand (best, index_shape)",
        "gathered = GatherElements <axis = 0> (a, index)",
        "scaled = Squeeze (gathered, first)",
    ]


def _network_nodes(arrays: Weights, name: str, output: str, inputs: str) -> list[str]:
    """Returns the graph of one network of `_flow_layers`; `act.py` has the same in NumPy."""
    x, nodes = f"{output}_in", [f"{output}_in = Concat <axis = -1> ({inputs})"]
    for i in range(int(arrays[name])):
        p = f"{output}_{i}"
        nodes += [f"{p}_m = MatMul ({x}, {name}_kernel_{i})", f"{p}_0 = Add ({p}_m, {name}_bias_{i})"]
        x = f"{p}_0"
        if name == "flow":
            nodes.append(f'{p}_y = Gelu <approximate = "tanh"> ({x})')
            x = f"{p}_y"
        if f"{name}_scale_{i}" in arrays:
            norm = f"LayerNormalization <axis = -1, epsilon = 1e-6> ({x}, {name}_scale_{i}, {name}_shift_{i})"
            nodes.append(f"{p}_n = {norm}")
            x = f"{p}_n"
        if name != "flow":
            nodes.append(f"{p}_r = Relu ({x})")
            x = f"{p}_r"
    last = f"{output} = Add ({output}_last, {name}_bias_last)"
    return [*nodes, f"{output}_last = MatMul ({x}, {name}_kernel_last)", last]


def read_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the policy, run by onnxruntime on the CPU: f32[B, O] to f32[B, A]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda observations: session.run(["actions"], {"observations": observations})[0]
