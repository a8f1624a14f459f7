"""Facts and numbers of runs, and the scores of each method on each dataset that follow from them."""

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xql_jax.errors import UserError
from xql_jax.reports.printed_tables import FINETUNING_TABLE, PAPER_TABLES, read_paper_table
from xql_jax.reports.run_summary import (
    FINE_TUNING,
    OFFLINE_TRAINING,
    cumulative_regret,
    grouped,
    varying_names,
)
from xql_jax.reports.score_table import Entry
from xql_jax.rollout.scores import steps_in_words
from xql_jax.suites.tasks import References

FOLDERS_HELP = "folders of runs, or folders that contain runs"  # what commands read
FINGERPRINT = "dataset_fingerprint"
# What scores of different algorithms must share to be compared: else it is in their names.
COMMON = ("references", "dataset", "env_backend", "legacy_inertia")
# Settings that distinguish no methods.
NO_METHOD = ("sweep", "log_interval", "eval_interval", "eval_episodes", "eval_at_start")
LARGEST_DRAWN = float(np.finfo(np.float32).max)  # larger values, such as infinity, cannot be drawn


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What reports, lists and figures show of a run besides its numbers."""

    path: Path
    name: str  # its folder, relative to the folder that was searched
    dataset: str
    algorithm: str
    phase: str  # the kind of its training: OFFLINE_TRAINING, ONLINE_TRAINING or FINE_TUNING
    status: str  # finished, running or interrupted
    step: int
    max_steps: int
    unit: str  # what its steps are
    seeds: tuple[int, int]  # first and last
    seconds: float  # of compiling, training and evaluating; NaN if unknown
    rate: float  # steps per second of all members together; NaN if unknown
    made_by: Mapping[str, object]  # commit, versions, machine and the like, for readers
    settings: dict[str, str]  # all settings as text, by their names on the command line
    is_normalised: bool  # whether 100 is an expert's score; else a score is the return itself
    has_own_data: bool  # whether it learned from files of the user instead of the task's dataset
    handover: int | None = None  # in fine-tuning, the step up to which steps are updates
    restarted: Sequence[str] = ()  # the members that initialised again after they diverged, once a time
    warnings: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class RunMember:
    """The numbers of one seed with one setting, from a column of one of its run's CSV files."""

    run: RunFacts
    settings: dict[str, str]  # as text, swept values included
    swept: str  # the sweep's values, such as "beta=0.5, tau=0.1"
    seed: int
    steps: Sequence[int]  # ascending, at least one; several numbers may be of one step
    values: Sequence[float]  # NaN if not finite
    diverged: Sequence[bool]  # whether it had diverged by then
    is_finished: bool  # whether it was trained to the end

    @property
    def name(self) -> str:
        """Its name in its run, such as "seed 3, beta=0.5"."""
        return ", ".join(filter(None, (f"seed {self.seed}", self.swept)))

    @property
    def last(self) -> float:
        return self.values[-1]

    @property
    def best(self) -> float:
        """The best of all evaluations; NaN if none was finite."""
        return max((value for value in self.values if not math.isnan(value)), default=math.nan)

    @property
    def before(self) -> float | None:
        """The score at the hand-over from offline to online training; None if there was no hand-over."""
        handover = self.run.handover
        if handover is None or handover not in self.steps:
            return None
        return self.values[self.steps.index(handover)]

    @property
    def after(self) -> float:
        """The mean of its evaluations after the hand-over; NaN without one."""
        if self.run.handover is None:
            return math.nan
        after = [
            value for step, value in zip(self.steps, self.values, strict=True) if step > self.run.handover
        ]
        return float(np.mean(after)) if after else math.nan

    @property
    def has_diverged(self) -> bool:
        return any(self.diverged)

    @property
    def restarts(self) -> int:
        return self.run.restarted.count(self.name)


class LeftOut(NamedTuple):
    """A run or a member that is not used, and why."""

    run: str
    reason: str


class FoundRuns(NamedTuple):
    """The runs found in some folders, and their members."""

    runs: Sequence[RunFacts]
    members: Sequence[RunMember]
    left_out: Sequence[LeftOut]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodScore(Entry):
    """The numbers of one method on one dataset; its members differ only in their seeds."""

    dataset: str
    method: str
    members: Sequence[RunMember]  # the finished ones, or all if none has finished

    @property
    def runs(self) -> list[RunFacts]:
        """The runs that the score comes from, each once."""
        return list({member.run.name: member.run for member in self.members}.values())

    @property
    def facts(self) -> RunFacts:
        """The facts of one of the runs, for what all runs have in common."""
        return self.members[0].run


def as_text(value: object) -> str:
    """Returns a setting as text for showing and comparing; equal numbers give the same text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.9g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def method_scores(members: Iterable[RunMember], but: str = "") -> list[MethodScore]:
    """Groups members that differ only in the seed, ordered by dataset and method.

    A method's name is its algorithm's, with the settings that differ among its members on this dataset. So
    values that a suite's config sets per dataset belong to one method, and values that were tried on the same
    dataset make several methods. So do data, references and simulators that differ between algorithms.

    Args:
        but: a setting that names leave out, although members with different values stay apart.
    Raises:
        UserError: if two runs have the same seed of a method.
    """
    scores: list[MethodScore] = []
    members = list(members)
    common = {
        dataset: {name for name in varying_names([one.settings for one in of_dataset]) if name in COMMON}
        for dataset, of_dataset in grouped(members, lambda member: member.run.dataset).items()
    }
    kinds = grouped(members, lambda member: (member.run.algorithm, member.run.phase))
    for (algorithm, phase), of_kind in kinds.items():
        plain = f"{algorithm} fine-tuned" if phase == FINE_TUNING else algorithm
        for dataset, of_dataset in grouped(of_kind, lambda member: member.run.dataset).items():
            given = {name for member in of_dataset for name in member.settings}
            names = sorted({*_names(of_dataset, but), *(common[dataset] & given)})
            for group in grouped(of_dataset, lambda member: as_text(_of_method(member))).values():
                name = " ".join(filter(None, (plain, setting_text(group[0], names))))
                scores.append(_score(name, dataset, group))
    return sorted(scores, key=lambda score: (score.dataset, score.method))


def comparable(scores: Sequence[MethodScore]) -> Iterator[tuple[str, list[MethodScore]]]:
    """Yields groups of scores whose numbers may share an axis or a search, and what sets each group apart.

    A group has one dataset, phase and unit, and the same references, data and simulator. What sets it apart
    is text, such as `references=[0, 4]`, or empty.
    """
    places = grouped(scores, lambda score: (score.dataset, score.facts.phase))
    varying = {place: _names([one.members[0] for one in group], "") for place, group in places.items()}

    def key(score: MethodScore) -> tuple[str, str, bool, str]:
        place = score.dataset, score.facts.phase
        names = [name for name in varying[place] if name in (*COMMON, FINGERPRINT)]
        return *place, score.facts.is_normalised, setting_text(score.members[0], names)

    for (*_, apart), group in grouped(scores, key).items():
        yield apart, group


def setting_text(member: RunMember, names: Iterable[str]) -> str:
    """Returns the member's values of these settings, such as `beta=0.5 tau=0.1`."""
    return " ".join(f"{name.removeprefix('config.')}={member.settings.get(name) or '-'}" for name in names)


def _names(members: Iterable[RunMember], but: str) -> list[str]:
    """Returns the settings that differ among the members; the data's digest only if others do not tell."""
    settings = list(map(_of_method, members))
    names = [name for name in varying_names(settings) if name != FINGERPRINT]
    if data_differ(settings, names):
        names.append(FINGERPRINT)
    return sorted({*names} - {but, f"config.{but}"})


def data_differ(settings: Sequence[Mapping[str, str]], names: Sequence[str]) -> bool:
    """Whether the data's digest tells apart settings that are equal in `names`.

    Settings that differ may have it only because methods have the same data in several forms.
    """
    alike = grouped(settings, lambda one: tuple(one.get(name) for name in names)).values()
    return any(len({one.get(FINGERPRINT) for one in same}) > 1 for same in alike)


def _of_method(member: RunMember) -> dict[str, str]:
    return {name: value for name, value in member.settings.items() if name not in NO_METHOD}


def _score(method: str, dataset: str, members: Sequence[RunMember]) -> MethodScore:
    """Returns the score of members that differ only in their seeds, with the paper's beside it."""
    for seed, of_seed in grouped(members, lambda member: member.seed).items():
        if len(of_seed) > 1:
            names = " and ".join(member.run.name for member in of_seed)
            raise UserError(f"{method} on {dataset} has seed {seed} twice: in {names}: move one elsewhere")
    finished = [member for member in members if member.is_finished]
    counted = finished or members
    run = counted[0].run
    before = tuple(member.before for member in counted if member.before is not None)
    paper_before, paper = _of_paper(run)
    after = float(np.mean([member.after for member in counted]))
    references = counted[0].settings.get("references")
    return MethodScore(
        dataset=dataset,
        method=method,
        members=counted,
        last=tuple(member.last for member in counted),
        best=tuple(member.best for member in counted),
        diverged=sum(member.has_diverged for member in counted),
        restarts=sum(member.restarts for member in counted),
        updates=max(member.steps[-1] for member in counted),
        before=before if len(before) == len(counted) else (),
        after=after,
        regret=float(cumulative_regret(np.array([after]))) if run.is_normalised else math.nan,
        paper_before=paper_before,
        paper=paper,
        run="; ".join(dict.fromkeys(member.run.name for member in counted)),
        commits=frozenset(str(member.run.made_by.get("commit", "")) for member in counted),
        note="" if finished else _how_far(counted),
        is_normalised=run.is_normalised,
        references=References(*json.loads(references)) if references else None,
    )


def _how_far(members: Sequence[RunMember]) -> str:
    run = members[0].run
    how = "stopped early" if run.status == "finished" else run.status
    step = min(member.steps[-1] for member in members)
    done, planned = (steps_in_words(each, run.unit, run.handover) for each in (step, run.max_steps))
    return f"{how} after {done} of {planned}"


def _of_paper(run: RunFacts) -> tuple[float | None, float | None]:
    """Returns the paper's scores before and after fine-tuning; None if it has none on these data."""
    place = (run.dataset, run.algorithm)
    for name in PAPER_TABLES:
        table = read_paper_table(name)
        phase = FINE_TUNING if name == FINETUNING_TABLE else OFFLINE_TRAINING
        if run.phase == phase and place in table.scores and not run.has_own_data:
            return table.before.get(place), table.scores[place]
    return None, None
