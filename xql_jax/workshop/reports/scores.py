"""Scores of methods on datasets: runs with their members' numbers, and the tables that the paper prints."""

import bisect
import contextlib
import csv
import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np

from xql_jax.data.dataset import checked_references
from xql_jax.errors import Damaged, UserError
from xql_jax.numerics.statistics import grouped, mean_and_interval, success_of
from xql_jax.rollout.quantities import shown
from xql_jax.runs.find import LeftOut, find_runs
from xql_jax.runs.kinds import FINE_TUNING, OFFLINE_TRAINING
from xql_jax.runs.load import FINGERPRINT, Run, as_text, digests_of
from xql_jax.suites.tasks import LISTED_TASKS, References

FOLDERS_HELP = "folders of runs, or folders that contain runs"  # what commands read
LARGEST_DRAWN = float(np.finfo(np.float32).max)  # larger values, such as infinity, cannot be drawn
# What scores of different methods must share to be compared: else it is in their names.
COMMON = ("references", "dataset")
# Settings that distinguish no methods, as no interval does.
NO_METHOD = ("sweep", "eval_episodes", "eval_at_start")
PAPER_TABLES = ("1", "2", "3")
FINETUNING_TABLE = "2"  # the table with the scores before and after fine-tuning
BEFORE_FINETUNING = "_offline"  # ends the name of a column with the scores before


class PaperTable(NamedTuple):
    """Normalised scores by dataset and method, without the cells that the paper leaves blank.

    Methods have this project's names; xql_t is XQL with Table 4's values for each dataset.

    Source: Garg et al. 2023, Table 1 (Gym, AntMaze, Kitchen), Table 2 (AntMaze, fine-tuned) and Table 3
    (Adroit).
    """

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    scores: Mapping[tuple[str, str], float]  # by dataset and method
    before: Mapping[tuple[str, str], float]  # scores before fine-tuning; empty except for Table 2


@functools.cache
def read_paper_table(name: str) -> PaperTable:
    """Returns the paper's table with that number, in `PAPER_TABLES`."""
    text = (resources.files("xql_jax.workshop.reports") / "printed" / f"table_{name}.csv").read_text()
    (_, *columns), *rows = csv.reader(text.splitlines())
    scores: dict[tuple[str, str], float] = {}
    before: dict[tuple[str, str], float] = {}
    for dataset, *cells in rows:
        for column, cell in zip(columns, cells, strict=True):
            if cell != "-":
                of_phase = before if column.endswith(BEFORE_FINETUNING) else scores
                of_phase[dataset, column.removesuffix(BEFORE_FINETUNING)] = float(cell)
    methods = tuple(column for column in columns if not column.endswith(BEFORE_FINETUNING))
    return PaperTable(tuple(dataset for dataset, *_ in rows), methods, scores, before)


def references_given(texts: Sequence[str]) -> dict[str, References]:
    """Parses TASK=RANDOM,EXPERT, the returns of scores 0 and 100; UserError if the task has its own."""
    parsed: dict[str, References] = {}
    for text in texts:
        task, _, returns = text.rpartition("=")
        try:
            low, high = map(float, returns.split(","))
        except ValueError:
            raise UserError(
                f"--references={text}: must be TASK=RANDOM,EXPERT: two returns, as in mine=0,50"
            ) from None
        if task in LISTED_TASKS and LISTED_TASKS[task].is_normalised:
            raise UserError(f"--references={text}: {task} has scores of its own")
        if known := checked_references((low, high), f"--references={text}"):
            parsed[task] = known
    return parsed


class Curve(NamedTuple):
    """The numbers of one member, a seed with one setting, from a column of one of its run's CSV files."""

    run: Run
    settings: dict[str, str]  # as text, swept values included
    swept: Mapping[str, float]  # the sweep's values
    seed: int
    steps: Sequence[int]  # ascending, at least one; several numbers may be of one step
    values: Sequence[float]  # NaN if not finite
    diverged: Sequence[bool]  # whether it had diverged by then
    is_finished: bool  # whether it was trained to the end
    success_rates: Sequence[float | None] = ()  # at the steps; NaN if nothing was told, None: there is none
    column: str = "score"  # which column the values are from


class FoundRuns(NamedTuple):
    runs: Sequence[Run]
    members: Sequence[Curve]
    left_out: Sequence[LeftOut]


def read_runs(
    folders: Sequence[str],
    file_name: str = "evaluations.csv",
    column: str = "score",
    references: Mapping[str, References] | None = None,
) -> FoundRuns:
    """Reads all runs below some folders, see `find_runs`, with the numbers in a column of a CSV file.

    The scores of datasets with `references`, by their names, are of the returns between these.
    """
    members: list[Curve] = []
    # All runs on the same files have the names of data of the first run. A user's files of the same
    # names, with which not even the same method learned from the same rows, have their digests, too.
    spellings: dict[object, str] = {}

    def read(run: Run) -> None:
        if "dataset" in run.record:
            names, digests = as_text(run.record["dataset"]), digests_of(run.record.get("data_files"))
            with contextlib.suppress(Damaged):
                rows = " ".join(filter(None, (run.settings_text.get(FINGERPRINT), run.numbers_digest)))
                run.settings_text |= {FINGERPRINT: rows} if rows else {}
            same = as_text(digests) if digests else names, (names, run.settings_text.get(FINGERPRINT))
            spelling = next((spellings[key] for key in same if key in spellings), names)
            if run.record["dataset"] and not spellings.keys() & {*same} and names in spellings.values():
                spelling = " ".join([names, *(str(digest)[:8] for digest in digests)])
            spellings.update(dict.fromkeys(same, spelling))
            run.settings_text["dataset"] = spelling
        references_of_run = (references or {}).get(run.dataset)
        if references_of_run and column == "score":
            run.references, run.settings_text["references"] = references_of_run, as_text(references_of_run)
            curves = curves_of(run, file_name, "return")
            members.extend(
                curve._replace(values=[*map(references_of_run.score, curve.values)], column="score")
                for curve in curves
            )
        else:
            members.extend(curves_of(run, file_name, column))

    runs, left_out = find_runs(folders, read)
    return FoundRuns(runs, members, left_out)


def curves_of(run: Run, file_name: str = "evaluations.csv", column: str = "score") -> list[Curve]:
    """Returns the numbers of each of its members; see `read_runs`."""
    rows, is_finished = run.rows(run.path / file_name), run.status == "finished"
    if rows and column not in rows[0].results:
        raise Damaged(f"{run.path / file_name}: it has no column {column}")
    last = max((row.step for row in rows), default=0)
    curves = []
    for (swept, seed), of_member in grouped(rows, lambda row: (row.setting, row.seed)).items():
        of_member.sort(key=lambda row: row.step)
        values, settings = [row.results[column] for row in of_member], dict(run.settings_text)
        for name, value in swept:
            settings[f"config.{name}" if f"config.{name}" in settings else name] = as_text(value)
        curve = Curve(
            run=run,
            settings=settings,
            swept=dict(swept),
            seed=seed,
            steps=[row.step for row in of_member],
            values=[value if abs(value) <= LARGEST_DRAWN else math.nan for value in values],
            diverged=[not math.isnan(row.results.get("diverged_at", math.nan)) for row in of_member],
            is_finished=is_finished and of_member[-1].step == last,
            success_rates=[row.results.get("success_rate") for row in of_member],
            column=column,
        )
        curves.append(curve)
    return curves


@dataclasses.dataclass(frozen=True)
class MethodScore:
    """The score of a method on a dataset, and its seeds' scores, in the order of the members."""

    dataset: str = ""
    name: str = ""  # of the method, without settings
    members: Sequence[Curve] = ()  # they differ only in the seed; none if no run has finished
    note: str = ""  # why there is no score, or none for some of the seeds
    paper: float | None = None  # the paper's score, if any
    paper_before: float | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)  # which tell it from others

    @property
    def method(self) -> str:
        """The method's name with these settings."""
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.settings.items())])

    @property
    def success(self) -> tuple[float, float, float] | None:
        """The rate of success at the last evaluation, over the episodes of all seeds, with Wilson's interval.

        None if the task does not tell it.
        """
        rates = [member.success_rates[-1] if member.success_rates else None for member in self.members]
        return success_of(rates, [member.run.record.get("eval_episodes", 0) for member in self.members])

    @property
    def runs(self) -> list[Run]:
        """The runs that the score comes from, each once."""
        return list({member.run.name: member.run for member in self.members}.values())

    @property
    def run(self) -> Run:
        """One of the runs, for what all have in common."""
        return self.members[0].run

    @property
    def quantity(self) -> str:
        """What the numbers are: the score, the return where it is the score, or another chosen quantity."""
        column = self.members[0].column if self.members else "score"
        return "return" if column == "score" and self.members and not self.run.is_normalised else column

    @property
    def is_normalised(self) -> bool:
        """Whether the numbers are scores, of which 100 is an expert's."""
        return self.quantity == "score"

    @property
    def last(self) -> tuple[float, ...]:
        return tuple(member.values[-1] for member in self.members)

    @property
    def best(self) -> tuple[float, ...]:
        """The best scores in training: they flatter, and are no result; NaN if none was finite."""
        return tuple(float(np.fmax.reduce(member.values)) for member in self.members)

    @property
    def before(self) -> tuple[float, ...]:
        """In fine-tuning the scores at the hand-over; else empty."""
        at = [(member, member.run.handover) for member in self.members]
        if not all(step in member.steps for member, step in at):
            return ()
        return tuple(member.values[member.steps.index(step)] for member, step in at)

    @property
    def diverged(self) -> int:
        return sum(any(member.diverged) for member in self.members)

    @property
    def mean(self) -> float:
        return mean_of(self.last)

    @property
    def interval(self) -> float:
        """Half-width of the 95% interval of the mean over seeds; NaN for fewer than two."""
        return float(mean_and_interval(np.array(self.last))[1]) if self.last else math.nan

    def cell(self) -> str:
        """Returns the last score, its interval over seeds, and the paper's in brackets: `71.3 ± 2.0 [72.5]`.

        With fine-tuning, the scores before and after: `71.3 ± 2.0 → 95.0 ± 1.1 [76 → 97]`. If seeds are
        missing, the cell says how many there are; if no run is finished, how far they are.
        """
        text = " → ".join(with_interval(scores) for scores in (self.before, self.last) if scores) or "–"
        if self.diverged:
            text += " div"
        if self.last and not self.is_normalised:
            text += f" ({self.quantity})"
        if self.last and self.note:
            is_finished = self.members[0].is_finished
            text += f" ({len(self.last)} seed(s) so far)" if is_finished else f" ({self.note})"
        papers = [f"{score:g}" for score in (self.paper_before, self.paper) if score is not None]
        return f"{text} [{' → '.join(papers)}]" if papers else text

    def record(self) -> dict[str, object]:
        """Returns the entry's columns in the CSV, scores with six digits; some are of fine-tuning alone."""
        success = map(plain_number, self.success or [math.nan] * 3)
        return {
            "last_score": plain_number(self.mean),
            "interval_95": plain_number(self.interval),
            "last_score_by_seed": " ".join(map(plain_number, self.last)),
            "best_score_by_seed": " ".join(map(plain_number, self.best)),
            "diverged_seeds": self.diverged,
            "step": max((member.steps[-1] for member in self.members), default=""),
            "paper_score": self.paper,
            "run": "; ".join(run.name for run in self.runs),
            "commit": " ".join(sorted({str(run.record.get("commit") or "unknown") for run in self.runs})),
            "note": self.note,
            "offline_score": plain_number(mean_of(self.before)),
            "offline_score_by_seed": " ".join(map(plain_number, self.before)),
            "paper_offline_score": self.paper_before,
            "quantity": self.quantity,
            **dict(zip(("success_rate", "success_low_95", "success_high_95"), success, strict=True)),
        }


def method_scores(members: Iterable[Curve], but: str = "") -> list[MethodScore]:
    """Groups members that differ only in the seed, ordered by dataset and method.

    A score's name is its method's, with the settings that differ among its members on this dataset, and the
    data and references that differ between methods. The setting `but` is in no name, although
    members with different values stay apart. UserError if two runs have the same seed of a method.
    """
    scores: list[MethodScore] = []
    members = list(members)
    no_data = {"dataset": as_text([])}  # as runs have it that learn online, or from the task's own
    common = {
        dataset: {*_varying_names([no_data | member.settings for member in of_dataset])}.intersection(COMMON)
        for dataset, of_dataset in grouped(members, lambda member: member.run.dataset).items()
    }
    kinds = grouped(members, lambda member: (member.run.method, member.run.kind))
    for (method, kind), of_kind in kinds.items():
        plain = f"{method} fine-tuned" if kind == FINE_TUNING else method
        for dataset, of_dataset in grouped(of_kind, lambda member: member.run.dataset).items():
            set_names = {name for member in of_dataset for name in member.settings}
            names = sorted({*_names(of_dataset, but), *(common[dataset] & set_names)})
            for group in grouped(of_dataset, lambda member: as_text(_of_method(member))).values():
                values = {name.removeprefix("config."): group[0].settings.get(name) or "-" for name in names}
                scores.append(_score(MethodScore(dataset, plain, settings=values), group))
    return sorted(scores, key=lambda score: (score.dataset, score.name, *map(_order, score.settings.items())))


def _varying_names(settings: Sequence[Mapping[str, object]]) -> list[str]:
    """Returns the names whose values differ among these settings, in the order of first appearance."""
    names = dict.fromkeys(name for values in settings for name in values)
    return [name for name in names if len({values.get(name) for values in settings}) > 1]


def _order(setting: tuple[str, str]) -> tuple[str, float, str]:
    """Returns what orders settings: numbers by size, and before text."""
    name, value = setting
    try:
        return name, float(value), ""
    except ValueError:
        return name, math.inf, value


def _names(members: Iterable[Curve], but: str) -> list[str]:
    """Returns the settings that differ among the members.

    The data's digest is among them only if others do not tell: settings that differ may have another digest
    only because methods have the same data in several forms.
    """
    settings = list(map(_of_method, members))
    names = [name for name in _varying_names(settings) if name != FINGERPRINT]
    alike = grouped(settings, lambda of_member: tuple(of_member.get(name) for name in names)).values()
    if any(len({of_member.get(FINGERPRINT) for of_member in same}) > 1 for same in alike):
        names.append(FINGERPRINT)
    return sorted({*names} - {but, f"config.{but}"})


def _of_method(member: Curve) -> dict[str, str]:
    names = [name for name in member.settings if not (name in NO_METHOD or name.endswith("_interval"))]
    return {name: member.settings[name] for name in names}


def _score(empty: MethodScore, members: Sequence[Curve]) -> MethodScore:
    """Returns the score with its members, which differ only in their seeds, and the paper's beside it."""
    for seed, of_seed in grouped(members, lambda member: member.seed).items():
        if len(of_seed) > 1:
            names = " and ".join(member.run.name for member in of_seed)
            raise UserError(
                f"{empty.method} on {empty.dataset} has seed {seed} twice: in {names}: move a run elsewhere"
            )
    members = sorted(members, key=lambda member: member.seed)
    run, note = members[0].run, ""
    counted = [member for member in members if member.is_finished]
    if not counted:
        how = "stopped early" if run.status == "finished" else run.status
        step = min(member.steps[-1] for member in members)
        note = f"{how} after {run.in_words(step)} of {run.in_words(run.max_steps)}"
        counted = [_until(step, member) for member in members if member.steps[0] <= step]
    paper_before, paper = _of_paper(run) if members[0].column == "score" else (None, None)
    return dataclasses.replace(empty, members=counted, note=note, paper=paper, paper_before=paper_before)


def _until(step: int, member: Curve) -> Curve:
    """Returns the member's numbers up to a step, which is not before its first."""
    number = bisect.bisect(member.steps, step)
    names = ("steps", "values", "diverged", "success_rates")
    return member._replace(**{name: getattr(member, name)[:number] for name in names})


def _of_paper(run: Run) -> tuple[float | None, float | None]:
    """Returns the paper's scores before and after fine-tuning; None if it has none on these data."""
    for name in PAPER_TABLES:
        table = read_paper_table(name)
        place = (run.dataset, "xql_t" if (run.method, name) == ("xql", FINETUNING_TABLE) else run.method)
        kind = FINE_TUNING if name == FINETUNING_TABLE else OFFLINE_TRAINING
        if run.kind == kind and place in table.scores and not run.record.get("dataset"):
            return table.before.get(place), table.scores[place]
    return None, None


def mean_of(scores: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(scores)) if len(scores) else math.nan


def with_interval(scores: Sequence[float]) -> str:
    """Returns the mean and, of two or more scores, half the width of its 95% interval."""
    mean, half_width = map(float, mean_and_interval(np.array(scores)))
    return shown(mean) + ("" if math.isnan(half_width) else f" ± {shown(half_width)}")


def plain_number(value: float) -> str:
    """Returns the number for a CSV file; NaN is an empty cell."""
    return "" if math.isnan(value) else f"{value:.6g}"
