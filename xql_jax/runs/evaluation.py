"""One evaluation: policies of a run, or random actions, put through a task's episodes."""

import dataclasses
import logging
from typing import Any

import numpy as np
from tqdm import tqdm

from xql_jax.envs import Suite, choose_suite
from xql_jax.envs.fidelity import describe_environment
from xql_jax.errors import UserError
from xql_jax.evaluation.policies import Act
from xql_jax.evaluation.rollout import Evaluator, episode_seed
from xql_jax.evaluation.scores import describe_episodes
from xql_jax.evaluation.video import SUFFIXES, prepare_to_draw, record_video
from xql_jax.files import as_json
from xql_jax.outputs import check_output, check_outputs_differ, writing_output
from xql_jax.runs.record import open_run, split_checkpoint
from xql_jax.runs.run import Run
from xql_jax.runs.settings import EvaluationSettings
from xql_jax.tasks import Task, get_task, referenced
from xql_jax.training.members import Member
from xql_jax.training.policies import finite_policy

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Policies:
    """M policies, and the task that they are to be put through."""

    task: Task
    env_backend: str
    legacy_inertia: bool
    members: list[Member | str]
    what: str  # they are, for messages
    act: Act  # of all, f32[M, K, O] to f32[M, K, A]
    act_first: Act  # of the first alone, f32[1, K, O] to f32[1, K, A]
    non_finite: set[int]  # the members of which `act` replaced actions that were NaN or infinite by 0

    @property
    def suite(self) -> Suite:
        return choose_suite(self.task, self.env_backend, self.legacy_inertia)


class EvaluationRun(Run):
    """Evaluates the policies that the settings name; `run` returns what --output is to hold."""

    settings: EvaluationSettings
    policies: Policies

    def open(self) -> None:
        settings = self.settings
        self.video = check_output("video", settings.video, SUFFIXES) if settings.video else None
        self.output = check_output("output", settings.output) if settings.output else None
        check_outputs_differ({"video": self.video, "output": self.output})
        if self.video:
            prepare_to_draw()
        random = settings.random_policy
        self.policies = _random_policies(settings) if random else _saved_policies(settings)
        task, suite = self.policies.task, self.policies.suite
        if self.video:  # before the work: pictures may not be had here
            self.stage = suite.make(task)
            self.resources.callback(self.stage.close)
            self.stage.reset(seed=0)
            self.stage.render()
        count, at_once = len(self.policies.members), settings.num_environments
        self.evaluator = Evaluator(task, count, settings.episodes, settings.seed, at_once, suite)
        self.resources.callback(self.evaluator.close)

    def run(self) -> dict[str, Any]:
        """Returns what --output holds: who was evaluated on what, and by member what its episodes came to."""
        policies, settings, task = self.policies, self.settings, self.policies.task
        LOG.info(f"{task.name}: {settings.episodes} episodes of {policies.what}")
        total = settings.episodes * len(policies.members)
        with tqdm(total=total, unit=" episodes", disable=None if settings.show_progress else True) as bar:
            results = self.evaluator.run(policies.act, on_ended=bar.update)
        members = [
            {"member": str(member), "non_finite_actions": index in policies.non_finite, **described}
            for index, (member, described) in enumerate(
                zip(policies.members, describe_episodes(results, task), strict=True)
            )
        ]
        report = {
            "env_name": task.name,
            "policies": policies.what,
            "seed": settings.seed,
            "environment": describe_environment(task, policies.env_backend, policies.legacy_inertia),
            "members": members,
        }
        self._write(report)  # a video may fail, and these are not to be lost
        if self.video:
            seeds = [episode_seed(settings.seed, episode) for episode in range(settings.video_episodes)]
            report["video_returns"] = record_video(self.stage, policies.act_first, seeds, self.video)
            self._write(report)
        return report

    def _write(self, report: dict[str, Any]) -> None:
        if self.output:
            with writing_output("output", self.output) as unfinished:
                unfinished.write_text(as_json(report) + "\n")


def _random_policies(settings: EvaluationSettings) -> Policies:
    if settings.checkpoint:
        raise UserError(f"--random_policy evaluates no checkpoint: leave out {settings.checkpoint!r}")
    if settings.member is not None:
        raise UserError("--random_policy has no members: leave out --member")
    if not settings.env_name:
        raise UserError("--random_policy needs --env_name")
    task = get_task(settings.env_name)
    env_backend, legacy_inertia = settings.env_backend or "mujoco", bool(settings.legacy_inertia)
    environment = choose_suite(task, env_backend, legacy_inertia).make(task)
    space = environment.action_space
    environment.close()
    generator = np.random.default_rng(settings.seed)

    def act(observations: np.ndarray) -> np.ndarray:
        return generator.uniform(space.low, space.high, (*observations.shape[:2], *space.shape))

    return Policies(task, env_backend, legacy_inertia, ["random"], "the random policy", act, act, set())


def _saved_policies(settings: EvaluationSettings) -> Policies:
    if not settings.checkpoint:
        raise UserError("name a run's folder or one of its checkpoints, or give --random_policy")
    path, step = split_checkpoint(settings.checkpoint)
    run = open_run(path)
    record = run.record
    env_name = settings.env_name or record.env_name
    if env_name is None:
        raise UserError(f"{path}: the run was trained without an environment: give --env_name")
    task = get_task(env_name)
    if task.name == record.env_name:
        task = referenced(task, record.references)
    env_backend = settings.env_backend or run.env_backend
    legacy_inertia = run.legacy_inertia if settings.legacy_inertia is None else settings.legacy_inertia
    environment = choose_suite(task, env_backend, legacy_inertia).make(task)
    dimensions = environment.observation_space.shape[0], environment.action_space.shape[0]
    environment.close()
    if settings.member is not None:
        run = run.only(settings.member)
    states, step = run.restore_for(task, step, *dimensions)
    non_finite: set[int] = set()
    return Policies(
        task,
        env_backend,
        legacy_inertia,
        list(run.members),
        f"{record.algorithm}, {step:,} {record.unit}s, {path}",
        finite_policy(run.policy(states), non_finite.add),
        run.only(0).policy(states),
        non_finite,
    )
