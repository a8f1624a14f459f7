"""One evaluation from its settings: policies of a run, or random actions, put through a task's episodes."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from xql_jax.envs import Suite, choose_suite
from xql_jax.envs.fidelity import fidelity
from xql_jax.errors import UserError
from xql_jax.evaluation.rollout import Act, Evaluator, episode_seed
from xql_jax.evaluation.scores import describe_episodes, mean_and_interval
from xql_jax.evaluation.video import SUFFIXES, prepare_to_draw, record_video
from xql_jax.outputs import check_output
from xql_jax.tasks import Task, get_task
from xql_jax.training.checkpoint import UnfitCheckpoint
from xql_jax.training.run_folder import write_json
from xql_jax.training.saved_run import open_run


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """The flags of `experiments/evaluate.py`, which explains them."""

    checkpoint: str | None  # a run's folder or one of its checkpoints
    env_name: str | None
    episodes: int
    member: int | None
    seed: int
    num_environments: int | None
    random_policy: bool
    env_backend: str
    legacy_inertia: bool
    video: str | None
    video_episodes: int
    output: str | None
    show_progress: bool


def run_evaluation(settings: EvaluationSettings) -> int:
    """Evaluates, prints and writes what the settings ask for; returns the exit code 0.

    Raises:
        UserError: if a setting or the checkpoint is unfit.
    """
    video = check_output("video", settings.video, SUFFIXES) if settings.video else None
    output = check_output("output", settings.output) if settings.output else None
    if video:
        prepare_to_draw()
    policies = _random_policies(settings) if settings.random_policy else _saved_policies(settings)
    task, suite = policies.task, policies.suite
    evaluator = Evaluator(
        task, len(policies.names), settings.episodes, settings.seed, settings.num_environments, suite
    )
    print(f"{task.name}: {settings.episodes} episodes of {policies.what}")
    total = settings.episodes * len(policies.names)
    try:
        with tqdm(total=total, unit=" episodes", disable=None if settings.show_progress else True) as bar:
            results = evaluator.run(policies.act, on_ended=bar.update)
    except FloatingPointError as error:
        raise UserError(f"{policies.what}: {error}") from error
    finally:
        evaluator.close()
    members = [
        {"member": name, **described}
        for name, described in zip(policies.names, describe_episodes(results, task), strict=True)
    ]
    _print(members)
    report = {
        "env_name": task.name,
        "policies": policies.what,
        "seed": settings.seed,
        "env_backend": settings.env_backend,
        "legacy_inertia": settings.legacy_inertia,
        "environment": dataclasses.asdict(fidelity(task)),
        "members": members,
    }
    if video:
        report["video_returns"] = _record(policies, settings, video)
    if output:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output={output}: cannot be written: {error}") from error
        write_json(output, report)
        print(f"results: {output}")
    return 0


@dataclasses.dataclass(frozen=True)
class _Policies:
    """M policies, and the task that they are to be put through."""

    task: Task
    suite: Suite
    names: list[str]
    what: str  # they are, for messages
    act: Act  # of all, f32[M, K, O] to f32[M, K, A]
    act_first: Act  # of the first alone, f32[1, K, O] to f32[1, K, A]


def _random_policies(settings: EvaluationSettings) -> _Policies:
    if settings.checkpoint:
        raise UserError(f"--random_policy evaluates no checkpoint: leave out {settings.checkpoint!r}")
    if settings.member is not None:
        raise UserError("--random_policy has no members: leave out --member")
    if not settings.env_name:
        raise UserError("--random_policy needs --env_name")
    task = get_task(settings.env_name)
    suite = choose_suite(task, settings.env_backend, settings.legacy_inertia)
    environment = suite.make(task)
    space = environment.action_space
    environment.close()
    generator = np.random.default_rng(settings.seed)

    def act(observations: np.ndarray) -> np.ndarray:
        return generator.uniform(space.low, space.high, (*observations.shape[:2], *space.shape))

    return _Policies(task, suite, ["random"], "the random policy", act, act)


def _saved_policies(settings: EvaluationSettings) -> _Policies:
    if not settings.checkpoint:
        raise UserError("name a run's folder or one of its checkpoints, or give --random_policy")
    path, step = _split(Path(settings.checkpoint).expanduser())
    run = open_run(path)
    step = run.steps[-1] if step is None else step
    env_name = settings.env_name or run.env_name
    if env_name is None:
        raise UserError(f"{path}: the run was trained without an environment: give --env_name")
    task = get_task(env_name)
    suite = choose_suite(task, settings.env_backend, settings.legacy_inertia)
    environment = suite.make(task)
    dimensions = environment.observation_space.shape[0], environment.action_space.shape[0]
    environment.close()
    try:
        states = run.restore(step, *dimensions)
    except UnfitCheckpoint as error:
        if task.name == run.env_name or "other states" not in error.reason:
            raise
        raise UserError(
            f"{task.name} does not fit the run, which was trained on {run.env_name or 'data alone'}: its "
            f"observations have {dimensions[0]} entries, its actions {dimensions[1]} ({error.reason})"
        ) from error
    if settings.member is not None:
        run, states = run.only(settings.member, states)
    first, first_state = run.only(0, states)
    return _Policies(
        task,
        suite,
        [str(member) for member in run.members],
        f"{run.algorithm}, {step:,} updates, {path}",
        run.policy(states),
        first.policy(first_state),
    )


def _split(path: Path) -> tuple[Path, int | None]:
    """Returns the run's folder and the checkpoint's step, None for the last."""
    if path.parent.name == "checkpoints" and path.name.isdigit():
        return path.parent.parent, int(path.name)
    return (path.parent if path.name == "checkpoints" else path), None


def _record(policies: _Policies, settings: EvaluationSettings, path: Path) -> list[float]:
    environment = policies.suite.make(policies.task)
    seeds = [episode_seed(settings.seed, episode) for episode in range(settings.video_episodes)]
    returns = record_video(environment, policies.act_first, seeds, path)
    environment.close()
    scores = policies.task.normalized_score(np.array(returns))
    print(f"video of {policies.names[0]}: {path}; scores {', '.join(f'{score:.1f}' for score in scores)}")
    return returns


def _print(members: list[dict[str, Any]]) -> None:
    """A line a member, and one over members, whose interval is that over training runs."""
    for entry in members:
        interval, rate = entry["score_interval_95"], entry["success_rate"]
        print(
            f"  {entry['member']}: score {entry['score_mean']:.1f}"
            + (f" ± {interval:.1f}" if interval is not None else "")
            + f" (95% interval over episodes), median {entry['score_median']:.1f}, "
            + (f"success {100 * rate:.0f}%, " if rate is not None else "")
            + f"return {entry['return_mean']:.4g}, length {entry['length_mean']:.1f}"
        )
    if len(members) > 1:
        mean, half_width = mean_and_interval(np.array([entry["score_mean"] for entry in members]))
        print(f"  mean of {len(members)} members: {mean:.1f} ± {half_width:.1f} (95% interval over members)")
