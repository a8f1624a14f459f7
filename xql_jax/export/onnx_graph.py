"""A policy as an ONNX graph, which onnxruntime and other programs run without JAX."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.data.layers import Layers
from xql_jax.errors import UserError

OPSET = 17  # version of the operators; onnxruntime has it from 1.12 on
IR_VERSION = 8  # version of the file format; likewise


def import_onnx() -> Any:
    """Returns the package onnx; UserError with what to install if it is missing."""
    try:
        import onnx
        import onnxruntime  # noqa: F401  (which reads it back)
    except ImportError as error:
        raise UserError(
            "--formats: onnx needs the packages onnx and onnxruntime: pip install 'xql_jax[export]'"
        ) from error
    return onnx


def write_onnx(layers: Layers, path: Path) -> None:
    """Writes a graph with the input `observations` f32[B, O] and the output `actions` f32[B, A].

    Raises:
        UserError: if the package onnx is not there.
    """
    onnx = import_onnx()
    helper, nodes, constants = onnx.helper, [], []

    def constant(name: str, array: np.ndarray) -> str:
        constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def dense(x: str, name: str, layer: tuple[np.ndarray, np.ndarray]) -> str:
        kernel, bias = constant(f"{name}_kernel", layer[0]), constant(f"{name}_bias", layer[1])
        return node("Gemm", [x, kernel, bias], name)

    x = node("Sub", ["observations", constant("shift", layers.shift)], "shifted")
    x = node("Div", [x, constant("scale", layers.scale)], "scaled")
    for number, layer in enumerate(layers.hidden):
        x = node("Relu", [dense(x, f"hidden_{number}", layer)], f"relu_{number}")
    if layers.logits is None:
        node("Tanh", [dense(x, "action", layers.action)], "actions")
    else:
        best = node("ArgMax", [dense(x, "logits", layers.logits)], "best", axis=-1, keepdims=0)
        shape = constant("shape", np.array([-1, layers.num_components, layers.action_dim]))
        means = node("Reshape", [node("Tanh", [dense(x, "action", layers.action)], "means"), shape], "split")
        chosen = node("Unsqueeze", [best, constant("last", np.array([1]))], "chosen")
        node("GatherND", [means, chosen], "actions", batch_dims=1)

    def value(name: str, size: int) -> Any:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", size])

    graph = helper.make_graph(
        nodes,
        "policy",
        [value("observations", layers.observation_dim)],
        [value("actions", layers.action_dim)],
        constants,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="xql_jax",
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def read_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the policy, run by onnxruntime on the CPU: f32[B, O] to f32[B, A]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda observations: session.run(["actions"], {"observations": observations})[0]
