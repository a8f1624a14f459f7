"""The runs that are besieged: tiny ones, stopped at some steps or ended, and what they may come to."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from judge import checkpoints_of, numbers
from tiny_runs import offline_settings, online_settings, write_dataset

from xql_jax.runs.evaluation import EvaluationRun
from xql_jax.runs.offline import OfflineRun
from xql_jax.runs.online import OnlineRun
from xql_jax.runs.reporting import read_runs
from xql_jax.runs.tool_settings import EvaluationSettings
from xql_jax.training.schedule import Schedule

SCHEDULE = Schedule(
    max_steps=12, log_interval=2, eval_interval=4, checkpoint_interval=2, checkpoint_minutes=0
)
STOPS = (4, 8)


class _Undrawn:
    """Pictures take half of a tiny run's time and have tests of their own."""

    def draw(self, population: Any) -> None:
        pass


class Offline(_Undrawn, OfflineRun):
    pass


class Online(_Undrawn, OnlineRun):
    pass


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of training; `other` changes its settings to those of another run."""

    name: str
    run: Callable[[Any], Any]
    settings: Callable[..., Any]
    other: dict[str, Any]
    unit: str


KINDS = {
    "offline": Kind("offline", Offline, offline_settings, {"top_returns": 1.0}, "update"),
    "online": Kind("online", Online, online_settings, {"seed": 7}, "step"),
}


@dataclasses.dataclass(frozen=True)
class Stage:
    """A run's folder as it was at some moment, and what it may become once it has ended."""

    name: str
    save_dir: Path
    run: Path
    make_settings: Callable[..., Any]
    may_become: list[Any]

    def settings(self, **changes: Any) -> Any:
        return self.make_settings(save_dir=str(self.save_dir), **changes)


@dataclasses.dataclass(frozen=True)
class Stages:
    kind: Kind
    stages: list[Stage]
    others: list[Stage]  # what an attack may take files from
    evaluations: list[Any]  # what an evaluation of the last or an earlier checkpoint may come to
    points: list[Any]  # of the figures

    def evaluate(self, run: Path) -> Any:
        settings = EvaluationSettings(checkpoint=str(run), episodes=1, num_environments=1)
        with EvaluationRun(settings) as evaluation:
            members = evaluation.run()["members"]
        return [(member["member"], member["return_mean"]) for member in members]


def make_stages(kind: Kind, folder: Path) -> Stages:
    write_dataset(folder / "data.npz")

    def settings(**changes: Any) -> Any:
        return kind.settings(folder, **{"schedule": SCHEDULE, "eval_episodes": 1, "num_seeds": 2, **changes})

    def trained(name: str, stop: int | None = None, **changes: Any) -> Stage:
        place = folder / name
        with kind.run(settings(save_dir=str(place), **changes)) as run:
            if stop is not None:
                stop_at(run, stop)
            run.run()
        return Stage(name, place, run.folder.path, settings, [])

    ended = trained("ended")
    stopped = [trained(f"stopped at {step}", step) for step in STOPS]
    other = trained("other", **kind.other)
    ends = [numbers(ended.run)]
    for stage in stopped:
        ends.extend(_ends(kind, stage, folder / "ways"))
    stages = [dataclasses.replace(stage, may_become=ends) for stage in (ended, *stopped)]
    for stage in (ended, *stopped):
        ends.extend(end for end in _ends(kind, stage, folder / "ways") if end not in ends)
    incomplete = Stages(kind, stages, [*stages, other], [], [])
    evaluations = []
    for stage in stages:
        for checkpoint in checkpoints_of(stage.run):
            evaluations.append(incomplete.evaluate(checkpoint))
    return dataclasses.replace(incomplete, evaluations=evaluations, points=points_in(ended.save_dir))


def points_in(folder: Path) -> list[Any]:
    """Returns the evaluations of the finished runs below a folder, as reports read them."""
    members = (member for member in read_runs([str(folder)]).members if member.is_finished)
    return [(member.run.dataset, member.seed, list(member.steps), list(member.values)) for member in members]


def _ends(kind: Kind, stage: Stage, place: Path) -> list[Any]:
    """What a run comes to from each of its checkpoints: offline the same, online episodes begin again."""
    found = []
    steps = sorted(int(path.name) for path in checkpoints_of(stage.run))
    for step in steps:
        shutil.rmtree(place, ignore_errors=True)
        run = place / stage.run.relative_to(stage.save_dir)
        shutil.copytree(stage.run, run)
        for later in steps:
            if later > step:
                shutil.rmtree(run / "checkpoints" / str(later))
        (run / "summary.json").unlink(missing_ok=True)
        with kind.run(stage.make_settings(save_dir=str(place), resume=True)) as again:
            again.run()
        end = numbers(run)
        if end not in found:
            found.append(end)
    return found


def stop_at(run: Any, step: int, do: Callable[[], object] = lambda: None, stops: bool = True) -> None:
    """After the call that ends at the step: does that, and asks the run to stop."""
    loop = run.loop

    def watched(population: Any) -> Any:
        training, advance = loop(population), population.advance

        def advance_and_stop(stop: int) -> Any:
            metrics = advance(stop)
            if stop >= step:
                do()
                if stops:
                    run.stop.request()
            return metrics

        population.advance = advance_and_stop
        return training

    run.loop = watched
