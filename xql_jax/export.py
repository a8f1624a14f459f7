"""A policy as files that other programs run: plain layers, an ONNX graph, a `jax.export` artifact."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from xql_jax.data.policy_files import Layers
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.learners.parts import Model
from xql_jax.networks.mlp import GaussianPolicy
from xql_jax.networks.policies import DeterministicPolicy, MixturePolicy, TanhGaussianPolicy
from xql_jax.types import Array

PLATFORMS = ("cpu", "cuda", "tpu")  # of an artifact
OPSET = 17  # version of ONNX's operators; onnxruntime has it from 1.12 on
IR_VERSION = 8  # version of ONNX's file format; likewise


def layers_of(actor: Any, preprocessing: Preprocessing, observation_dim: int) -> Layers:
    """Returns the layers of an actor.

    Args:
        actor: what `Learner.actor` returns for one policy: a network and its parameters.
        preprocessing: the one that it was trained with.
    Raises:
        UserError: if the policy is more than a stack of layers.
    """
    stacks = GaussianPolicy | MixturePolicy | TanhGaussianPolicy | DeterministicPolicy
    if type(actor) is not Model or not isinstance(actor.network, stacks):
        raise UserError(
            "only a policy that is a stack of layers can be exported: not one with a memory (dt), or one "
            "that chooses among samples by Q (bear)"
        )
    network = actor.network
    parameters = actor.params["params"]

    def dense(layer: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(layer["kernel"]), np.asarray(layer["bias"])

    body = parameters.get("MLP_0", {})  # missing if there are no hidden layers
    hidden = tuple(dense(body[f"Dense_{number}"]) for number in range(len(network.hidden_dims)))
    if isinstance(network, MixturePolicy):
        logits, action = dense(parameters["Dense_0"]), dense(parameters["Dense_1"])
    else:
        logits, action = None, dense(parameters["Dense_0"])
    if isinstance(network, TanhGaussianPolicy):  # the second half is for the deviations
        action = action[0][:, : network.action_dim], action[1][: network.action_dim]
    shift, scale = preprocessing.observation_mean, preprocessing.observation_std
    return Layers(
        shift=np.asarray(shift or np.zeros(observation_dim), np.float32),
        scale=np.asarray(scale or np.ones(observation_dim), np.float32),
        hidden=hidden,
        action=action,
        logits=logits,
    )


def write_artifact(act: Callable[[Array], Array], observation_dim: int, path: Path) -> None:
    """Writes the function of f32[B, O], for any B, as StableHLO for `PLATFORMS`.

    jax.export promises that versions of JAX up to six months newer can read it.
    """
    (size,) = jax.export.symbolic_shape("B")
    observations = jax.ShapeDtypeStruct((size, observation_dim), np.float32)
    path.write_bytes(jax.export.export(jax.jit(act), platforms=PLATFORMS)(observations).serialize())


def read_artifact(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function that `write_artifact` wrote."""
    called = jax.export.deserialize(bytearray(path.read_bytes())).call
    return lambda observations: np.asarray(called(observations))


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
