"""Exports a run's policy to files that work without this project; each is compared with the original.

The files are layers in a NumPy archive, an ONNX graph and a `jax.export` artifact.
"""

import inspect
import logging
import re
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

import xql_jax
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError, needing
from xql_jax.files import as_json
from xql_jax.files.outputs import write_output, writing_output
from xql_jax.files.paths import located
from xql_jax.learners.bear import Chooser
from xql_jax.learners.flow_policies import FlowActor
from xql_jax.learners.parts import NetworkState
from xql_jax.networks.mlp import GaussianPolicy
from xql_jax.networks.policies import (
    DeterministicPolicy,
    MixturePolicy,
    NarrowGaussianPolicy,
    StateGaussianPolicy,
    TanhGaussianPolicy,
)
from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.runs.kinds import other_bounds
from xql_jax.runs.load import Run
from xql_jax.settings import ANY, COUNT_OR_NONE, TEXT, Command, setting, some_of
from xql_jax.training.members import Member, learners_of
from xql_jax.types import Array, Json
from xql_jax.workshop.tools import act as act_script
from xql_jax.workshop.tools.opening import open_run, own_method

LOG = logging.getLogger(__name__)
NUM_OBSERVATIONS = 1_000  # on which the files are compared with the original
LARGEST_DIFFERENCE = 1e-5  # accepted, of an action's entry, whose bounds count as ±1
FILES = {name: f"policy.{name}" for name in ("jax", "onnx", "npz")}
REPORT = "policy.json"
SCRIPT = "act.py"  # beside the .npz
OPSET = 20  # version of ONNX's operators; onnxruntime has it from 1.17 on
IR_VERSION = 9  # version of ONNX's file format; likewise
PLATFORMS = ("cpu", "cuda", "tpu")  # of an artifact
Weights = dict[str, np.ndarray]  # the arrays of a policy by name, see `weights_of`
Policy = Callable[[np.ndarray], np.ndarray]  # observations f32[B, O] to actions f32[B, A]
GAUSSIANS = (GaussianPolicy, StateGaussianPolicy, NarrowGaussianPolicy)
STACKS = (*GAUSSIANS, MixturePolicy, TanhGaussianPolicy, DeterministicPolicy)  # of layers


@Command
@settings_of_jax()
def export_policy(
    *,
    checkpoint: str = setting("", ANY, "a run's folder or one of its checkpoints", positional=True),
    method: str | None = own_method(),
    env_name: str | None = setting(
        None, TEXT, "Task whose bounds the actions have, for a run on data alone."
    ),
    allow_other_bounds: bool = other_bounds(),
    member: int | None = setting(
        None, COUNT_OR_NONE, "Member, counted from 0. Must be given if the run has several, such as seeds."
    ),
    formats: Sequence[str] | None = setting(
        None,
        some_of(*FILES),
        "Files to write. jax: an artifact of jax.export; onnx: a graph; npz: weights. "
        "All but npz need xql_jax[export]. Default: all that can be written.",
        by_commas=True,
    ),
    output: str | None = setting(None, TEXT, "Folder for the files. Default: `export` in the run's folder."),
) -> Json:
    """Writes the policy in every format; returns the content of policy.json, and the folder.

    UserError if the policy cannot be exported, or a file, read back, has other actions.
    """
    run = open_run(
        checkpoint, method, member=member, env_name=env_name, allow_other_bounds=allow_other_bounds
    )
    chosen = run.one_member()
    [learner] = learners_of(run.learner, [chosen])
    actor = learner.actor(jax.tree.map(jnp.asarray, run.states[chosen.name]))
    if hasattr(learner, "act_remembering") or isinstance(actor, Chooser):
        raise UserError("a policy that has a memory (dt) or draws its samples (bear) cannot be exported")
    # A user's own network may be a subclass with other layers.
    is_stack = type(actor) is NetworkState and type(actor.network) in STACKS
    bounds = run.preprocessing.chunk_bounds.filled(run.sizes[1] * run.preprocessing.action_chunk)
    folder, names = located(output or run.path / "export"), _formats(formats, is_stack)
    for name in (REPORT, *FILES.values()):  # the report first: it must not describe files of another policy
        (folder / name).unlink(missing_ok=True)

    def act(observations: Array) -> Array:
        seen = run.preprocessing.observations(observations)
        return run.preprocessing.acted(learner.act(actor, seen, jax.random.key(0), deterministic=True))

    original = run.deciding_policy()
    # Where two actions of a flow have the same Q but for rounding, either may be chosen.
    accepted = 0.995 if isinstance(actor, FlowActor) else 1.0
    observations = _observations(run)
    expected = bounds.to_learner(original(observations[None])[0])
    if not np.isfinite(expected).all():
        raise UserError(f"{run.path}: its actions are not finite: {'; '.join(run.caveats([chosen]))}")
    weights = weights_of(actor, run.preprocessing, run.sizes[0]) if is_stack else {}
    differences: dict[str, float] = {}  # of an action's entry from the run's policy; bounds are ±1
    for name in names:
        actions = bounds.to_learner(write_policy(name, folder, weights, act, run.sizes[0])(observations))
        difference = float(np.quantile(np.abs(actions - expected).max(-1), accepted))
        if not difference <= LARGEST_DIFFERENCE:
            (folder / FILES[name]).unlink()
            raise UserError(f"{folder / FILES[name]}: its actions differ from the run's by {difference:.2g}")
        LOG.info(f"{folder / FILES[name]}: differs by at most {difference:.1e} of half an action's range")
        differences[name] = difference
    report = {**_description(run, chosen), "largest_difference": differences}
    write_output("output", folder / REPORT, as_json(report) + "\n")
    return {**report, "folder": str(folder)}


def _description(run: Run, member: Member) -> Json:
    """Returns what policy.json says of the policy, and of the arrays that it takes and gives."""
    chunk = run.preprocessing.action_chunk
    of_actions = "from low to high, as the environment takes them"
    if chunk > 1:
        of_actions += f": {chunk} actions to carry out one after the other, each {run.sizes[1]}"
    if run.preprocessing.action_range.low:
        of_actions += "; low and high are the range of the data's actions"
    return {
        "version": xql_jax.__version__,
        "policy": f"{run.what}, {member}",
        "run": run.run_id,
        "warnings": run.caveats([member]),
        "env_name": run.env_name,
        "observations": f"float32[B, {run.sizes[0]}], as the environment gives them",
        "not_finite": "observations with NaN or infinity: act.py raises ValueError, the others return NaN",
        "actions": f"float32[B, {run.sizes[1] * chunk}], {of_actions}",
        "action_chunk": chunk,
        **run.preprocessing.limits.filled(run.sizes[1] * chunk)._asdict(),
    }


def _formats(named: Sequence[str] | None, is_stack: bool) -> list[str]:
    """Returns the formats to write: the formats that the user named, or all that can be."""
    formats = []
    for name in named or FILES:
        try:
            if not is_stack and name != "jax":
                raise UserError(f"--formats: {name}: what is no stack of layers is exported as jax alone")
            with needing(f"--formats: {name}", "export"):
                if name == "jax":
                    import flatbuffers  # noqa: F401  (of which jax.export makes files)
                elif name == "onnx":
                    import onnx  # noqa: F401
                    import onnxruntime  # noqa: F401
        except UserError as error:
            if named:
                raise
            LOG.warning(f"{error}; {FILES[name]} is left out")
        else:
            formats.append(name)
    return formats


def _observations(run: Run) -> np.ndarray:
    """Returns Gaussian observations: three times as wide as the data, if the run normalises by these."""
    drawn = 3 * np.random.default_rng(0).standard_normal((NUM_OBSERVATIONS, run.sizes[0]))
    if run.preprocessing.observation_mean:
        drawn = np.asarray(run.preprocessing.observation_mean) + drawn * run.preprocessing.observation_std
    return drawn.astype(np.float32)


def write_policy(
    name: str, folder: Path, weights: Weights, act: Callable[[Array], Array], observation_dim: int
) -> Policy:
    """Writes the files of one of the `FILES`' formats; returns the policy read back from them.

    The artifact is of the function `act`, other files have the `weights`.
    """
    file = folder / FILES[name]
    with writing_output("output", file) as unfinished:
        if name == "jax":
            _write_artifact(act, observation_dim, unfinished)
        elif name == "onnx":
            write_onnx(weights, unfinished)
        else:
            with unfinished.open("wb") as archive:  # to a path, NumPy would add a suffix
                np.savez(archive, **weights)  # type: ignore[arg-type]
    if name != "npz":
        return read_artifact(file) if name == "jax" else read_onnx(file)
    write_output("output", folder / SCRIPT, inspect.getsource(act_script))
    return runpy.run_path(str(folder / SCRIPT))["load"](file)[0]


def weights_of(actor: NetworkState, preprocessing: Preprocessing, observation_dim: int) -> Weights:
    """Returns the arrays of an actor (a network and its parameters) that is a stack of layers.

    They are `act.py`'s: f32 shift, scale [O], low, high, least, most [A], kernels [N, M], biases [M]. ±1 are
    low and high, and no action is beyond least and most.
    """
    shift, scale = preprocessing.observation_mean, preprocessing.observation_std
    low, high = np.array(preprocessing.chunk_bounds.filled(actor.network.action_dim), np.float32)
    least, most = np.array(preprocessing.limits.filled(actor.network.action_dim), np.float32)
    network, parameters = actor.network, actor.params["params"]
    hidden = parameters.get("MLP_0", {})  # missing if there are no hidden layers
    number = len(network.hidden_dims)
    layers: dict[str, ArrayLike] = {"num_hidden": number}
    layers |= {f"kernel_{i}": hidden[f"Dense_{i}"]["kernel"] for i in range(number)}
    layers |= {f"bias_{i}": hidden[f"Dense_{i}"]["bias"] for i in range(number)}
    for i, head in enumerate(("logits", "action") if isinstance(network, MixturePolicy) else ("action",)):
        layers[f"{head}_kernel"] = parameters[f"Dense_{i}"]["kernel"]
        layers[f"{head}_bias"] = parameters[f"Dense_{i}"]["bias"]
    if isinstance(network, TanhGaussianPolicy):  # the second half is for the deviations
        layers["action_kernel"] = parameters["Dense_0"]["kernel"][:, : network.action_dim]
        layers["action_bias"] = parameters["Dense_0"]["bias"][: network.action_dim]
    return {
        "shift": np.asarray(shift or np.zeros(observation_dim), np.float32),
        "scale": np.asarray(scale or np.ones(observation_dim), np.float32),
        "low": low,
        "high": high,
        "least": least,
        "most": most,
        **{name: np.asarray(array) for name, array in layers.items()},
    }


def _write_artifact(act: Callable[[Array], Array], observation_dim: int, path: Path) -> None:
    """Writes the function of f32[B, O] as StableHLO for `PLATFORMS`; NaN where one is not finite."""
    (size,) = jax.export.symbolic_shape("B")
    observations = jax.ShapeDtypeStruct((size, observation_dim), np.float32)
    checked = jax.jit(lambda seen: jnp.where(jnp.isfinite(seen).all(1, keepdims=True), act(seen), jnp.nan))
    path.write_bytes(jax.export.export(checked, platforms=PLATFORMS)(observations).serialize())


def read_artifact(path: Path) -> Policy:
    called = jax.export.deserialize(bytearray(path.read_bytes())).call
    return lambda observations: np.asarray(called(observations))


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
    nodes += ["raised = Max (moved, least)", "bounded = Min (raised, most)"]
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


def read_onnx(path: Path) -> Policy:
    """Returns the policy, run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda observations: session.run(["actions"], {"observations": observations})[0]
