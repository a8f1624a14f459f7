"""Export of a run's policy to files that work without this project; each is compared with the original."""

import contextlib
import functools
import json
import logging
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xql_jax.data.layers import EXAMPLE, Layers, write_archive
from xql_jax.errors import UserError
from xql_jax.evaluation.rollout import Evaluator
from xql_jax.export.jax_artifact import read_artifact, write_artifact
from xql_jax.export.layers import layers_of
from xql_jax.export.onnx_graph import import_onnx, read_onnx, write_onnx
from xql_jax.files import as_json, read_file
from xql_jax.outputs import make_folder, writing_output
from xql_jax.runs.record import open_record
from xql_jax.runs.restored import Restored, RestoredPolicies, restore_policies, restore_run
from xql_jax.runs.run import Run
from xql_jax.runs.saved_policies import split_checkpoint
from xql_jax.runs.settings import EXPORT_FORMATS, ExportSettings
from xql_jax.training.members import learners_of
from xql_jax.types import Array

LOG = logging.getLogger(__name__)
NUM_OBSERVATIONS = 1_000  # on which the files are compared with the original
TOLERANCE = 1e-5  # largest accepted difference of an action's entry
FILES = {"jax": "policy.jax", "onnx": "policy.onnx", "npz": "policy.npz"}
REPORT = "policy.json"
SCRIPT = "act.py"  # beside the .npz
Policy = Callable[[np.ndarray], np.ndarray]  # observations f32[B, O] to actions f32[B, A]


class ExportRun(Run):
    """Writes the policy in every format, reads each file back and compares; `run` returns a report."""

    settings: ExportSettings

    def open(self) -> None:
        settings = self.settings
        unknown = [name for name in settings.formats if name not in EXPORT_FORMATS]
        if unknown or not settings.formats:
            raise UserError(f"--formats={','.join(settings.formats)}: known: {', '.join(EXPORT_FORMATS)}")
        self.restored = restored = self._restored()
        if len(restored.run.members) > 1:
            raise UserError(
                f"{restored.path}: the run has {len(restored.run.members)} members: choose one with --member"
            )
        self.original = restored.run.policy(restored.states)
        self.layers, self.act = _parts_of(restored)
        if "onnx" in settings.formats:
            import_onnx()  # raises UserError before anything is written if it is not installed
        self.folder = make_folder("output", settings.output or str(restored.path / "export"))
        self._check_others()

    def _restored(self) -> RestoredPolicies:
        """Reads the policies; if the run had no task and none is given, they are compared without one."""
        settings = self.settings
        path, _ = split_checkpoint(settings.checkpoint)
        if settings.env_name or open_record(path).env_name:
            return restore_run(settings.checkpoint, env_name=settings.env_name, member=settings.member)
        if settings.episodes:
            raise UserError(
                f"--episodes={settings.episodes}: {path} was trained without an environment: give --env_name"
            )
        return restore_policies(settings.checkpoint, member=settings.member)

    def run(self) -> dict[str, Any]:
        """Returns the largest difference from the original per format, and the scores if requested."""
        restored, (size, action_dim) = self.restored, self.restored.dimensions
        policies = {name: self._written(name, size) for name in self.settings.formats}
        differences = self._differences(policies)
        originals: dict[str, Policy] = {"run": lambda observations: self.original(observations[None])[0]}
        scores = self._scores({**originals, **policies}) if self.settings.episodes else {}
        report = {
            "policy": f"{restored.what}, {restored.run.members[0]}",
            "identity": self._identity,
            "env_name": restored.task.name if isinstance(restored, Restored) else None,
            "observations": f"float32[B, {size}], as the environment gives them",
            "actions": f"float32[B, {action_dim}], within [-1, 1]",
            "largest_difference": differences,  # of an action's entry, from the run's own policy
            "scores": scores,
        }
        with writing_output("output", self.folder / REPORT) as unfinished:
            unfinished.write_text(as_json(report) + "\n")
        return report

    @property
    def _identity(self) -> str:
        """The run's digest, the step and the member: the same policy, wherever its folder is."""
        run = self.restored.run
        return f"{run.record.run}, {self.restored.step}, {run.members[0].name}"

    def _check_others(self) -> None:
        """Raises UserError if files of another policy would remain beside those of this one."""
        report = self.folder / REPORT
        kept = [file for name, file in FILES.items() if name not in self.settings.formats]
        beside = [file for file in kept if (self.folder / file).exists()]
        if not beside or not report.exists():
            return
        try:
            there = json.loads(read_file(report))
            is_other, which = there["identity"] != self._identity, str(there["policy"])
        except (ValueError, LookupError, TypeError):  # of another version, or damaged
            is_other, which = True, "unknown"
        if is_other:
            raise UserError(
                f"{self.folder / beside[0]}: of another policy ({which}): write all --formats, or give "
                "another --output"
            )

    def _written(self, name: str, size: int) -> Policy:
        """Writes a format's files; returns the policy read back from them."""
        file = self.folder / FILES[name]
        with writing_output("output", file) as unfinished:
            if name == "jax":
                write_artifact(self.act, size, unfinished)
            elif name == "onnx":
                write_onnx(self.layers, unfinished)
            else:
                write_archive(self.layers, unfinished)
        if name == "jax":
            return read_artifact(file)
        if name == "onnx":
            return read_onnx(file)
        script = self.folder / SCRIPT
        with writing_output("output", script) as unfinished:
            unfinished.write_text(EXAMPLE.format(script=SCRIPT, archive=file.name))
        return _acting_script(script, file)

    def _differences(self, policies: Mapping[str, Policy]) -> dict[str, float]:
        """Returns each format's largest difference from the run's policy; UserError if it is too large."""
        observations = _some_observations(self.restored)
        expected = self.original(observations[None])[0]
        found = {name: float(np.abs(act(observations) - expected).max()) for name, act in policies.items()}
        for name, difference in found.items():
            if not difference <= TOLERANCE:
                file = self.folder / FILES[name]
                raise UserError(f"{file}: its actions differ from the run's by up to {difference:.2g}")
            LOG.info(f"{self.folder / FILES[name]}: differs by at most {difference:.1e}")
        return found

    def _scores(self, policies: Mapping[str, Policy]) -> dict[str, float]:
        """Returns the mean score of each policy; all are evaluated in the same episodes."""
        assert isinstance(self.restored, Restored)  # see `_restored`
        task, suite, settings = self.restored.task, self.restored.suite, self.settings
        scores = {}
        for name, act in policies.items():
            evaluator = Evaluator(task, 1, settings.episodes, settings.seed, suite=suite)
            with contextlib.closing(evaluator):
                results = evaluator.run(functools.partial(_of_one_member, act))
            scores[name] = float(task.normalized_score(results.returns).mean())
        return scores


def _parts_of(restored: RestoredPolicies) -> tuple[Layers, Callable[[Array], Array]]:
    """Returns the policy as layers, and as a function of unpreprocessed observations f32[B, O]."""
    run = restored.run
    [member] = run.members
    [learner] = learners_of(run.learner, [member])
    actor = learner.actor(jax.tree.map(jnp.asarray, restored.states[member.name]))
    layers = layers_of(actor, run.preprocessing, restored.dimensions[0])

    def act(observations: Array) -> Array:
        seen = (
            (observations - layers.shift) / layers.scale
            if run.preprocessing.observation_mean
            else observations
        )
        return learner.act(actor, seen, jax.random.key(0), deterministic=True)

    return layers, act


def _of_one_member(act: Policy, observations: np.ndarray) -> np.ndarray:
    """Calls the policy with the shapes of an evaluation: f32[1, K, O] to f32[1, K, A]."""
    return act(observations[0])[None]


def _acting_script(script: Path, archive: Path) -> Policy:
    return runpy.run_path(str(script))["load"](archive)[0]


def _some_observations(restored: RestoredPolicies) -> np.ndarray:
    """Returns observations f32[NUM_OBSERVATIONS, O] from episodes of random actions.

    Without a task they are Gaussian, with the mean and deviation of the run's data if it normalises by them.
    """
    if not isinstance(restored, Restored):
        gaussian = np.random.default_rng(0).standard_normal((NUM_OBSERVATIONS, restored.dimensions[0]))
        fitted = restored.run.preprocessing
        if fitted.observation_mean:
            gaussian = np.asarray(fitted.observation_mean) + gaussian * np.asarray(fitted.observation_std)
        return gaussian.astype(np.float32)
    environment = restored.suite.make(restored.task)
    generator, space = np.random.default_rng(0), environment.action_space
    observations: list[np.ndarray] = []
    ended = True
    while len(observations) < NUM_OBSERVATIONS:
        if ended:
            observation, _ = environment.reset(seed=len(observations))
        else:
            action = generator.uniform(space.low, space.high).astype(np.float32)
            observation, _, terminated, truncated, _ = environment.step(action)
        ended = not ended and (terminated or truncated)
        observations.append(np.array(observation, np.float32))
    environment.close()
    return np.stack(observations)
