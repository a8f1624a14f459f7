"""Exports a run's policy to files that work without this project; each is compared with the original."""

import contextlib
import functools
import logging
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.policy_files import EXAMPLE, Layers, write_archive
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs import choose_suite
from xql_jax.errors import UserError
from xql_jax.export import import_onnx, layers_of, read_artifact, read_onnx, write_artifact, write_onnx
from xql_jax.files import as_json
from xql_jax.outputs import make_folder, writing_output
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.runs.load import SavedRun, load_run
from xql_jax.runs.tool_settings import EXPORT_FORMATS, ExportSettings
from xql_jax.training.members import learners_of
from xql_jax.types import Array

LOG = logging.getLogger(__name__)
NUM_OBSERVATIONS = 1_000  # on which the files are compared with the original
TOLERANCE = 1e-5  # largest accepted difference of an action's entry
FILES = {"jax": "policy.jax", "onnx": "policy.onnx", "npz": "policy.npz"}
REPORT = "policy.json"
SCRIPT = "act.py"  # beside the .npz
Policy = Callable[[np.ndarray], np.ndarray]  # observations f32[B, O] to actions f32[B, A]


def export_policy(settings: ExportSettings) -> dict[str, Any]:
    """Writes the policy in every format, reads each file back and compares it with the original.

    Returns:
        The content of policy.json: the largest difference per format, and the scores if requested.
    Raises:
        UserError: if the policy cannot be exported, or a file's actions differ from the original's.
    """
    unknown = [name for name in settings.formats if name not in EXPORT_FORMATS]
    if unknown or not settings.formats:
        raise UserError(f"--formats={','.join(settings.formats)}: known: {', '.join(EXPORT_FORMATS)}")
    run = load_run(settings.checkpoint, member=settings.member)
    member = run.one_member()
    layers, act = _parts_of(run)
    task = run.task(settings.env_name) if settings.episodes else None
    suite = choose_suite(task, run.simulation) if task else None
    if task and suite:
        run.check_fits(task, *suite.sizes(task))
    if "onnx" in settings.formats:
        import_onnx()  # raises UserError before anything is written if it is not installed
    folder = make_folder("output", settings.output or str(run.path / "export"))
    for name in FILES:  # a file of another policy must not lie beside those of this one
        (folder / FILES[name]).unlink(missing_ok=True)
    original = run.policy()
    policies: dict[str, Policy] = {"run": lambda observations: original(observations[None])[0]}
    policies |= {name: _written(name, folder, layers, act) for name in settings.formats}
    differences = _differences(policies, run.preprocessing, run.sizes[0])
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise UserError(f"{folder / FILES[name]}: its actions differ from the run's by {difference:.2g}")
        LOG.info(f"{folder / FILES[name]}: differs by at most {difference:.1e}")
    scores = {}
    if task:  # all in the same episodes
        for name, policy in policies.items():
            with contextlib.closing(
                Evaluator(task, 1, settings.episodes, settings.seed, suite=suite)
            ) as stage:
                results = stage.run(functools.partial(_of_one_member, policy))
            scores[name] = float(task.normalized_score(results.returns).mean())
    report = {
        "policy": f"{run.what}, {member}",
        "run": run.run,
        "env_name": run.env_name,
        "observations": f"float32[B, {run.sizes[0]}], as the environment gives them",
        "actions": f"float32[B, {run.sizes[1]}], within [-1, 1]",
        "largest_difference": differences,  # of an action's entry, from the run's own policy
        "scores": scores,
    }
    with writing_output("output", folder / REPORT) as unfinished:
        unfinished.write_text(as_json(report) + "\n")
    return {**report, "folder": str(folder)}


def _parts_of(run: SavedRun) -> tuple[Layers, Callable[[Array], Array]]:
    """Returns the policy as layers, and as a function of unpreprocessed observations f32[B, O]."""
    [member] = run.members
    [learner] = learners_of(run.learner, [member])
    actor = learner.actor(jax.tree.map(jnp.asarray, run.states[member.name]))
    layers = layers_of(actor, run.preprocessing, run.sizes[0])

    def act(observations: Array) -> Array:
        is_normalized = run.preprocessing.observation_mean
        seen = (observations - layers.shift) / layers.scale if is_normalized else observations
        return learner.act(actor, seen, jax.random.key(0), deterministic=True)

    return layers, act


def _written(name: str, folder: Path, layers: Layers, act: Callable[[Array], Array]) -> Policy:
    """Writes a format's files; returns the policy read back from them."""
    file = folder / FILES[name]
    with writing_output("output", file) as unfinished:
        if name == "jax":
            write_artifact(act, layers.observation_dim, unfinished)
        elif name == "onnx":
            write_onnx(layers, unfinished)
        else:
            write_archive(layers, unfinished)
    if name == "jax":
        return read_artifact(file)
    if name == "onnx":
        return read_onnx(file)
    with writing_output("output", folder / SCRIPT) as unfinished:
        unfinished.write_text(EXAMPLE.format(script=SCRIPT, archive=file.name))
    return runpy.run_path(str(folder / SCRIPT))["load"](file)[0]


def _of_one_member(policy: Policy, observations: np.ndarray) -> np.ndarray:
    """Calls the policy with the shapes of an evaluation: f32[1, K, O] to f32[1, K, A]."""
    return policy(observations[0])[None]


def _differences(
    policies: Mapping[str, Policy], preprocessing: Preprocessing, observation_dim: int
) -> dict[str, float]:
    """Returns each file's largest difference from the run's policy, on Gaussian observations.

    They are three times as wide as the data if the run normalises by them, else as a standard Gaussian.
    """
    drawn = 3 * np.random.default_rng(0).standard_normal((NUM_OBSERVATIONS, observation_dim))
    if preprocessing.observation_mean:
        drawn = np.asarray(preprocessing.observation_mean) + drawn * np.asarray(preprocessing.observation_std)
    observations = drawn.astype(np.float32)
    expected = policies["run"](observations)
    return {
        name: float(np.abs(act(observations) - expected).max())
        for name, act in policies.items()
        if name != "run"
    }
