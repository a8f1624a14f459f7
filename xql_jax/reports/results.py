"""The results of runs by member (one seed with one setting), grouped into scores.

A score belongs to one method on one dataset, and its members differ only in their seeds.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence

from xql_jax.reports.paper_tables import FINETUNING, TABLES, read_paper_table
from xql_jax.reports.score_table import Entry, ScoreTable
from xql_jax.reports.summary import varying_names

OFFLINE, ONLINE, FINE_TUNED = "offline", "online", "fine-tuned"  # phases: the kind of a run's training
NO_METHOD = ("sweep", "log_interval", "eval_interval")  # settings that do not distinguish methods


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """The facts about a run that a report shows beside its numbers."""

    name: str  # its folder, relative to the folder that the report was given
    dataset: str
    algorithm: str
    phase: str  # OFFLINE, ONLINE or FINE_TUNED
    status: str  # finished, interrupted or unfinished
    step: int
    max_steps: int
    unit: str  # what its steps are
    seconds: Mapping[str, float]  # by activity
    rate: float  # steps per second of all members together; NaN if unknown
    commit: str
    versions: Mapping[str, str]
    simulator: str
    machine: str
    resumed: int  # how often
    settings: Mapping[str, str]  # all settings as text, by their names on the command line
    is_normalised: bool  # whether 100 is an expert's score; else a score is the return itself
    has_own_data: bool  # whether it learned from files of the user instead of the task's dataset
    handover: int | None = None  # in fine-tuning, the step up to which steps are updates
    warnings: tuple[str, ...] = ()

    @property
    def wall_clock(self) -> float:
        """The run's time in seconds; NaN if unknown."""
        return sum(self.seconds.values()) if self.seconds else math.nan


@dataclasses.dataclass(frozen=True)
class MemberCurve:
    """The evaluations of a member: one seed with one setting. Scores that are not finite are NaN."""

    run: RunFacts
    settings: Mapping[str, str]  # as text, swept values included
    seed: int
    steps: Sequence[int]  # ascending, at least one
    scores: Sequence[float]
    has_diverged: bool
    is_finished: bool  # whether it was trained to the end: not running, stopped or cut by halving

    @property
    def last(self) -> float:
        return self.scores[-1]

    @property
    def best(self) -> float:
        """The best score of all evaluations; NaN if none was finite."""
        return max((score for score in self.scores if not math.isnan(score)), default=math.nan)

    @property
    def before(self) -> float | None:
        """The score at the hand-over from offline to online training; None if there was no hand-over."""
        if self.run.handover is None or self.run.handover not in self.steps:
            return None
        return self.scores[self.steps.index(self.run.handover)]


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A run or a member that the report leaves out, and why."""

    run: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Results:
    """The runs and members that a report is made from."""

    runs: Sequence[RunFacts]
    members: Sequence[MemberCurve]
    left_out: Sequence[LeftOut]


@dataclasses.dataclass(frozen=True)
class Score:
    """The score of one method on one dataset. Unfinished members count only if none has finished."""

    dataset: str
    method: str
    members: Sequence[MemberCurve]

    @property
    def shown(self) -> Sequence[MemberCurve]:
        """The members that the score is made of: the finished ones, or all if none has finished."""
        return [member for member in self.members if member.is_finished] or self.members

    @property
    def is_finished(self) -> bool:
        return all(member.is_finished for member in self.shown)

    @property
    def runs(self) -> list[RunFacts]:
        """The runs that the score comes from, each once."""
        return list({member.run.name: member.run for member in self.shown}.values())

    @property
    def phase(self) -> str:
        return self.members[0].run.phase

    @property
    def algorithm(self) -> str:
        return self.members[0].run.algorithm

    @property
    def is_normalised(self) -> bool:
        return all(member.run.is_normalised for member in self.members)

    def entry(self) -> Entry:
        """Returns the score as a table entry, with the paper's score if the run used the paper's dataset."""
        shown = self.shown
        before = tuple(member.before for member in shown if member.before is not None)
        paper = (None, None) if any(run.has_own_data for run in self.runs) else self._of_paper()
        return Entry(
            last=tuple(member.last for member in shown),
            best=tuple(member.best for member in shown),
            diverged=sum(member.has_diverged for member in shown),
            updates=max(member.steps[-1] for member in shown),
            before=before if len(before) == len(shown) else (),
            paper_before=paper[0],
            paper=paper[1],
            run="; ".join(run.name for run in self.runs),
            note="" if self.is_finished else self.note,
            is_normalised=self.is_normalised,
        )

    @property
    def note(self) -> str:
        """Why the score is not final yet; "" if it is."""
        if self.is_finished:
            return ""
        run = self.shown[0].run
        at = min(member.steps[-1] for member in self.shown)
        how = "stopped early" if run.status == "finished" else run.status
        return f"{how} at {at:,} of {run.max_steps:,} {run.unit}s"

    def _of_paper(self) -> tuple[float | None, float | None]:
        """Returns the paper's scores of the algorithm before and after fine-tuning; None if it has none."""
        if self.phase == ONLINE:
            return None, None
        place = (self.dataset, self.algorithm)
        if self.phase == FINE_TUNED:
            table = read_paper_table(FINETUNING)
            return table.before.get(place), table.scores.get(place)
        tables = (read_paper_table(name) for name in TABLES if name != FINETUNING)
        return None, next((table.scores[place] for table in tables if place in table.scores), None)


def as_text(value: object) -> str:
    """Returns a setting as text for showing and comparing; equal numbers give the same text."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.9g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def scores_of(members: Iterable[MemberCurve]) -> tuple[list[Score], list[LeftOut]]:
    """Groups members that differ only in the seed, ordered by dataset and method.

    A method's name is its algorithm's, with the settings that differ among its members on some dataset. So
    values that a suite's config sets per dataset belong to one method, and values that were tried on the same
    dataset make several methods.

    Returns:
        The scores; and the members that are left out because another run has the same seed.
    """
    alike: dict[tuple[str, str], dict[str, dict[str, list[MemberCurve]]]] = {}
    for member in members:
        kind = (member.run.algorithm, member.run.phase)
        settings = json.dumps(_of_method(member), sort_keys=True)
        of_dataset = alike.setdefault(kind, {}).setdefault(member.run.dataset, {})
        of_dataset.setdefault(settings, []).append(member)
    scores: list[Score] = []
    doubled: list[LeftOut] = []
    for (algorithm, phase), by_dataset in alike.items():
        groups = [
            [_of_method(group[0]) for group in by_settings.values()] for by_settings in by_dataset.values()
        ]
        varying = sorted({name for group in groups for name in varying_names(group)})
        plain = algorithm if phase != FINE_TUNED else f"{algorithm} {phase}"
        for dataset, by_settings in by_dataset.items():
            for group in by_settings.values():
                values = _of_method(group[0])
                parts = (f"{name.removeprefix('config.')}={values.get(name, '-')}" for name in varying)
                kept = _each_seed_once(group, doubled)
                scores.append(Score(dataset, " ".join((plain, *parts)), kept))
    return sorted(scores, key=lambda score: (score.dataset, score.method)), doubled


def score_table(scores: Sequence[Score]) -> ScoreTable:
    """Returns the scores as a table that can be written as text, CSV and LaTeX."""
    datasets = list(dict.fromkeys(score.dataset for score in scores))
    methods = sorted({score.method for score in scores})
    return ScoreTable(datasets, methods, {(score.dataset, score.method): score.entry() for score in scores})


def _of_method(member: MemberCurve) -> dict[str, str]:
    return {name: value for name, value in member.settings.items() if name not in NO_METHOD}


def _each_seed_once(group: Sequence[MemberCurve], doubled: list[LeftOut]) -> list[MemberCurve]:
    """Returns one member per seed, the one that got farthest, and adds the others to `doubled`."""
    kept: dict[int, MemberCurve] = {}
    for member in sorted(
        group, key=lambda member: (member.seed, -member.is_finished, -member.steps[-1], member.run.name)
    ):
        if first := kept.get(member.seed):
            doubled.append(
                LeftOut(member.run.name, f"seed {member.seed} is counted once, in {first.run.name}")
            )
        else:
            kept[member.seed] = member
    return list(kept.values())
