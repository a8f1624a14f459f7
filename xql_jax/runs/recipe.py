"""D4RL's five datasets of a task from one online run: random, medium, medium-replay, expert, medium-expert.

As in D4RL (Fu et al. 2020), the medium set is made by a policy whose training was stopped early. The set
medium-replay is the replay buffer up to that point, and medium-expert is the medium set followed by the
expert set. Early means here that the return is a third of the way from the random policy's return to the
run's last return.
"""

import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from xql_jax.data.rows import joined_sets
from xql_jax.data.writers import read_command, read_rows, write_hdf5
from xql_jax.errors import UserError
from xql_jax.logs.csv_reader import Row
from xql_jax.outputs import make_folder, writing_output
from xql_jax.runs.behaviours import RANDOM, Place
from xql_jax.runs.collection import (
    CollectionRun,
    command_of,
    common_metadata,
    summary_of,
)
from xql_jax.runs.load import SavedRun
from xql_jax.runs.references import ReferenceReturns
from xql_jax.runs.run import Run
from xql_jax.runs.settings import CollectionSettings, RecipeSettings
from xql_jax.runs.sources import online_run
from xql_jax.tasks import References, get_task, referenced
from xql_jax.training.members import Member

LOG = logging.getLogger(__name__)
MEDIUM = 1 / 3  # of the way from the random policy's return to the run's last
QUALITIES = ("random", "medium", "medium-replay", "expert", "medium-expert")


class RecipeRun(Run):
    """Makes the datasets SAVE_DIR/TASK-QUALITY.hdf5 that do not exist yet."""

    settings: RecipeSettings

    def open(self) -> None:
        settings = self.settings
        if not settings.run:
            raise UserError("--recipe needs --run: the folder of an online run that has ended")
        if settings.transitions is None:
            raise UserError("--recipe needs --transitions: of the random, the medium and the expert set")
        self.path = Path(settings.run).expanduser()
        run = online_run(self.path, "run", settings.member, settings.env_name)
        record = run
        if record.summary.get("status") != "finished":
            raise UserError(f"--run={self.path}: the run has not ended: go on with train_online.py --resume")
        self.place = Place.of(get_task(record.env_name or ""), run.simulation)
        self.steps = record.steps
        self.returns = _evaluated_returns(record, run.members[0])
        experts = [] if settings.expert_return is not None else [self._checkpoint(self.steps[-1])]
        self.references = ReferenceReturns(settings, experts, self.place, settings.member, settings.seed)
        self.folder = Path(settings.save_dir).expanduser()

    def plan(self) -> list[str]:
        """Describes, in lines, what `run` will do, without doing it."""
        random = self.settings.random_return
        of_medium = (
            "the first checkpoint whose evaluation reached a third of the way from random to the last"
            if random is None
            else f"checkpoint {self._medium_step(random):,}"
        )
        what = {
            "random": "random actions",
            "medium": of_medium,
            "medium-replay": "the replay buffer until medium's step",
            "expert": f"checkpoint {self.steps[-1]:,}",
            "medium-expert": "both of these sets",
        }
        there = {quality: " (is there)" if os.path.lexists(self._file(quality)) else "" for quality in what}
        return [
            f"task: {self.place.task.name}, {self.settings.transitions:,} transitions per dataset, "
            "except medium-replay",
            f"reference returns: {self.references.plan()}",
            *(f"  {self._file(quality)}: {what[quality]}{there[quality]}" for quality in QUALITIES),
        ]

    def run(self) -> dict[str, Any]:
        """Makes the missing datasets; returns their summaries, see `summary_of`."""
        make_folder("save_dir", self.settings.save_dir)
        references = self.references.measure()
        assert references is not None
        step = self._medium_step(references.random_return)
        LOG.info(f"medium: checkpoint {step:,}; expert: checkpoint {self.steps[-1]:,}")
        made = []
        for quality, settings in self._sets(references, step).items():
            if self._is_there(quality, command_of(settings)):
                continue
            with CollectionRun(settings) as run:
                made += run.run()["sets"]
            LOG.info(f"written: {settings.output}")
        parts = [read_command(self._file(quality)) for quality in ("medium", "expert")]
        joined = f"one after the other: {parts[0]}; {parts[1]}"
        if not self._is_there("medium-expert", joined):
            made.append(self._join(references, joined))
        return {"sets": made}

    def _sets(self, references: References, medium: int) -> dict[str, CollectionSettings]:
        """Returns the settings of the four datasets that `CollectionRun` makes, by quality."""
        settings = self.settings

        def of(quality: str, **changes: Any) -> CollectionSettings:
            return CollectionSettings(
                output=str(self._file(quality)),
                member=settings.member,
                show_progress=settings.show_progress,
                **references._asdict(),
                **changes,
            )

        def by(quality: str, policy: str, number: int) -> CollectionSettings:
            seed = settings.seed + number  # so that the sets have different initial states
            transitions, name = settings.transitions, self.place.task.name
            return of(quality, env_name=name, policy=(policy,), transitions=transitions, seed=seed)

        return {
            "random": by("random", RANDOM, 0),
            "medium": by("medium", self._checkpoint(medium), 1),
            "medium-replay": of("medium-replay", replay=str(self.path), until=medium),
            "expert": by("expert", self._checkpoint(self.steps[-1]), 2),
        }

    def _join(self, references: References, command: str) -> dict[str, Any]:
        output = self._file("medium-expert")
        sets = [read_rows(self._file(quality)) for quality in ("medium", "expert")]
        rows = joined_sets(sets)
        cuts = np.cumsum([len(each["rewards"]) for each in sets]) - 1
        summary = summary_of(rows, output, referenced(self.place.task, references), cuts.tolist())
        metadata = {
            **common_metadata(self.place),
            "command": command,
            **{name: summary[name] for name in ("transitions", "episodes", "mean_return")},
            **references._asdict(),
        }
        with writing_output("save_dir", output) as unfinished:
            write_hdf5(unfinished, rows, metadata)
        return summary

    def _medium_step(self, random_return: float) -> int:
        """Returns the step of the medium policy: the first checkpoint that reached the wanted return."""
        last = self.returns[max(self.returns)]
        wanted = random_return + MEDIUM * (last - random_return)
        reached = [step for step, value in sorted(self.returns.items()) if step and value >= wanted]
        if last <= random_return or reached[0] < self.steps[0]:
            why = (
                f"the run's last return, {last:g}, is not above the random policy's, {random_return:g}"
                if last <= random_return
                else f"{wanted:g} was reached at step {reached[0]:,}, and the first checkpoint is "
                f"{self.steps[0]:,}: train with --keep_checkpoints=0 --checkpoint_interval={reached[0]}"
            )
            raise UserError(f"--run={self.path}: no medium policy: {why}")
        return next(step for step in reached if step in self.steps)  # the last evaluation has a checkpoint

    def _is_there(self, quality: str, command: str) -> bool:
        """Whether a dataset exists; raises UserError if another command made it."""
        file = self._file(quality)
        if not os.path.lexists(file):
            return False
        if (found := read_command(file)) != command:
            raise UserError(f"{file}: was made by {found!r}, not by {command!r}: give another --save_dir")
        LOG.info(f"is there: {file}")
        return True

    def _checkpoint(self, step: int) -> str:
        return str(self.path / "checkpoints" / str(step))

    def _file(self, quality: str) -> Path:
        return self.folder / f"{self.place.task.name}-{quality}.hdf5"


def _evaluated_returns(record: SavedRun, member: Member) -> dict[int, float]:
    """Returns the member's returns by evaluation step; raises UserError if it was not evaluated."""

    def is_ours(row: Row) -> bool:
        pairs = zip(row.setting, member.hyperparameters.values(), strict=True)
        return row.seed == member.seed and all(
            math.isclose(theirs, ours, rel_tol=1e-5) for (_, theirs), ours in pairs
        )

    returns = {
        row.step: row.results["return"] for row in record.rows(record.files.evaluations) if is_ours(row)
    }
    if not returns:
        raise UserError(f"--run={record.path}: the run was not evaluated (--eval_episodes=0)")
    return returns
