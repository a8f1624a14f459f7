"""Evaluation of a run's policies in episodes of a task."""

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Collection, Sequence

import numpy as np

from xql_jax.envs import EnvironmentMaker, environment_maker, versions_of
from xql_jax.envs.vector import VectorEnv
from xql_jax.errors import UserError
from xql_jax.files import as_json
from xql_jax.files.outputs import check_output, write_output
from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.rollout.evaluation import EVALUATION_START_SEED, MOST_EPISODES, Evaluator, episode_seed
from xql_jax.rollout.scores import describe_episodes
from xql_jax.rollout.video import VIDEO_SUFFIXES, prepare_to_draw, record_video
from xql_jax.runs.kinds import other_bounds
from xql_jax.runs.load import Run
from xql_jax.settings import ANY, COUNT_OR_NONE, EITHER, TEXT, Checked, setting, within
from xql_jax.suites.tasks import Task
from xql_jax.training.progress import progress_bar
from xql_jax.types import Json
from xql_jax.workshop.tools.opening import open_run, own_method

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Checked):
    checkpoint: str = setting("", ANY, "a run's folder or one of its checkpoints", positional=True)
    method: str | None = own_method()
    env_name: str | None = setting(
        None,
        TEXT,
        "Task, also MODULE:ID. Default: the run's own, unless that is a MODULE:ID: then it must be named.",
    )
    episodes: int = setting(100, within(1, MOST_EPISODES), "Episodes per member.")
    allow_other_bounds: bool = other_bounds()
    member: int | None = setting(None, COUNT_OR_NONE, "Member to evaluate, counted from 0. Default: all.")
    seed: int = setting(
        EVALUATION_START_SEED, COUNT_OR_NONE, "Seed of the episodes; training's evaluations use another."
    )
    num_environments: int | None = setting(
        None, within(1, 100_000), "Most environments at once. Default: chosen by the suite.", value_type=int
    )
    video: str | None = setting(None, TEXT, "Record the first member's first episodes as FILE.mp4.")
    video_episodes: int = setting(3, within(1, 1_000), "Episodes of the video.")
    output: str | None = setting(None, TEXT, "Also write the results to this file, as JSON.")
    tqdm: bool = setting(True, EITHER, "Show a progress bar, if stderr is a terminal.")


@settings_of_jax()
def evaluate(settings: EvaluationSettings) -> Json:
    """Evaluates policies, and records a video if asked for; returns the content of --output."""
    output = check_output("output", settings.output) if settings.output else None
    video = check_output("video", settings.video, VIDEO_SUFFIXES) if settings.video else None
    if video:
        prepare_to_draw()
    run = open_run(
        settings.checkpoint,
        settings.method,
        member=settings.member,
        env_name=settings.env_name,
        allow_other_bounds=settings.allow_other_bounds,
    )
    task = run.task
    maker = environment_maker(task)
    run.check_fits(task, *maker.sizes(task))
    non_finite: set[int] = set()  # members whose actions were not finite: see `finite_policy`
    act = run.policy(report=non_finite.add)
    with contextlib.ExitStack() as stack:
        if video:  # tried before the evaluation, because rendering may not work on this machine
            filmed = stack.enter_context(contextlib.closing(filmed_environment(task, maker)))
        LOG.info(f"{task.name}: {settings.episodes} episodes of {run.what}")
        at_once = settings.num_environments or maker.max_environments
        limited = dataclasses.replace(maker, max_environments=at_once)
        evaluator = Evaluator(task, len(run.members), settings.episodes, settings.seed, limited)
        stack.enter_context(contextlib.closing(evaluator))
        told = run.compared_with(task, evaluator.env)
        with progress_bar(settings.episodes * len(run.members), "episode", settings.tqdm) as bar:
            results = evaluator.run(act, on_step=lambda step: bar.update(int(step.ended.sum())))
        report = {
            "env_name": task.name,
            "quantity": task.quantity,
            "policies": run.what,
            "warnings": [*run.caveats(run.members), *told],
            "seed": settings.seed,
            "environment": {"versions": versions_of(task)},
            "members": _entries(run, non_finite, describe_episodes(results, task)),
        }
        if output:  # before the video, which may fail: the results must not be lost
            write_output("output", output, as_json(report) + "\n")
        if video:
            act = run.policy(run.members[:1], non_finite.add)
            seeds = [episode_seed(settings.seed, episode) for episode in range(settings.video_episodes)]
            with progress_bar(len(seeds) * task.longest, "step", settings.tqdm, name="video") as bar:
                returns = record_video(filmed, act, seeds, video, bar.update)
            report["video_returns"] = returns
            if not task.by_success:
                report["video_scores"] = task.normalized_score(np.array(returns)).tolist()
            if output:
                write_output("output", output, as_json(report) + "\n")
        return report


def _entries(run: Run, non_finite: Collection[int], descriptions: Sequence[Json]) -> list[Json]:
    """Returns what --output says of each member, given the descriptions of its episodes."""
    entries = []
    for index, (member, description) in enumerate(zip(run.members, descriptions, strict=True)):
        entry = {
            "member": str(member),
            "non_finite_actions": index in non_finite,
            "diverged": bool(run.progress.members[member.name]["diverged"]),
            "setting": member.name.partition("_")[2],  # of a sweep, to its last digit
        }
        entries.append(entry | description)
    return entries


def filmed_environment(task: Task, maker: EnvironmentMaker) -> VectorEnv:
    """Returns an environment that draws pictures; UserError if it draws none."""
    make = functools.partial(maker.make, render_mode="rgb_array") if task.suite.is_registered else maker.make
    env = dataclasses.replace(maker, make=make).vector_env(task, 1)
    env.reset([0])
    try:
        env.render()
    except NotImplementedError:  # of `gymnasium.Env`
        raise UserError("--video: no pictures: the environment has no method `render`") from None
    return env
