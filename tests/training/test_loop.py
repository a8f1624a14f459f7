"""The loop: what is due when, what it writes and says. test_state_machine.py breaks it off."""

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from training_runs import TASK, Growth, OneStep, Start, make_data, make_growth, make_training, train, untimed

from xql_jax.rollout.evaluation import EpisodeResults
from xql_jax.suites.tasks import OWN
from xql_jax.training.checkpoints import TrainingFiles
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.members import make_members
from xql_jax.training.population import Population
from xql_jax.training.progress import progress_bar, speed_of
from xql_jax.training.schedule import Schedule
from xql_jax.training.trainer import OfflineTrainer, resident

# Updates, and those between logs, evaluations and checkpoints. Member 1 (growth 4) diverges at update 32.
SCHEDULE = 42, 4, 10, 6


@pytest.fixture(scope="module")
def start():
    return Start(make_growth(seeds=[3], grid={"growth": [1.0, 4.0]}))


def test_rows_of_a_run(start, tmp_path, caplog):
    training, files = make_training(tmp_path, start.again(), (*SCHEDULE, 10.0, 3, True))  # also at the start
    with training, caplog.at_level("INFO"):
        train(training)
    told = [line.split(":")[0] for line in caplog.messages if "score" in line]  # once each, without a bar
    assert told == [f"update {step}" for step in (0, 10, 20, 30, 40, 42)]
    assert "?" not in caplog.text  # no speed, before there is one
    header, *rows = untimed(files.metrics)
    assert header == "step,seed,growth,walk/square,walk/x,walk/z,walk/square_mean,walk/x_mean,walk/z_mean"
    steps = [int(row.split(",")[0]) for row in rows]
    assert steps == [4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28, 32, 36, 40, 42]  # one row from 32 on
    header, *rows = untimed(files.evaluations)
    assert header == "step,seed,growth,return,score,length,diverged_at"
    assert [int(row.split(",")[0]) for row in rows] == [0, 0, 10, 10, 20, 20, 30, 30, 40, 40, 42, 42]


def test_rows_have_the_means_of_their_intervals(tmp_path):
    """x is 2^t after update t; the last row, at the run's end, is of two updates alone."""
    training, files = make_training(tmp_path, make_growth([0], growth=2.0), (10, 4, 10, 10))
    with training:
        train(training)
    with files.metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["walk/x"]) for row in rows] == [16, 256, 1024]
    assert [float(row["walk/x_mean"]) for row in rows] == [30 / 4, 480 / 4, 768]
    assert [float(row["walk/square_mean"]) for row in rows] == [85, 21760, (2**18 + 2**20) / 2]


def test_what_a_trainer_measures_has_rows_at_its_interval(tmp_path):
    """By the name of its method alone. x is 2^t after update t, and again what a resumed run measures."""

    class Measuring(OfflineTrainer):
        def positions(self):
            return {"x": np.asarray(self.population.states["x"])[:, None] * [1, 10]}

    def training_until(last):
        trainer = Measuring(Population(Growth(growth=2.0), make_members([0], {}), resident(make_data(), 4)))
        schedule = Schedule(last, 100, 100, 100, measured={"positions": 3})
        return TrainingLoop.resumed(trainer, None, None, schedule, TrainingFiles(tmp_path))

    for last in (5, 8):
        with training_until(last) as training:
            train(training)
    rows = (tmp_path / "positions.csv").read_text().splitlines()
    assert rows == ["step,seed,x", "3,0,8", "3,0,80", "6,0,64", "6,0,640", "8,0,256", "8,0,2560"]


def test_every_episode_has_a_row_whose_means_are_the_evaluation(start, tmp_path):
    """The first member met the criterion in three of four episodes, the second in none.

    Score 0 of the maze is a return of 23.85, 100 one of 161.86 (D4RL's maze2d-umaze).
    """
    returns = np.array([[23.85, 161.86, 92.855, 0.0], [1.0, 2.0, 3.0, 1e6]])
    lengths, successes = np.arange(8).reshape(2, 4), np.array([[True, True, False, True], [False] * 4])

    class Judged(OneStep):
        def run(self, act):
            return EpisodeResults(returns, lengths, successes)

    files = TrainingFiles(tmp_path)
    with TrainingLoop.resumed(start.again(), Judged(2), TASK, Schedule(8, 4, 4, 4), files) as training:
        train(training)
    header, *rows = untimed(files.evaluations)
    assert header == "step,seed,growth,return,score,length,success_rate,diverged_at"
    assert [row.split(",")[-2] for row in rows] == ["0.75", "0"] * 2
    header, *lines = files.episodes.read_text().splitlines()
    assert header == "step,seed,growth,episode,return,score,length,success"
    assert lines[:4] == ["4,3,1,0,23.85,0,0,1", "4,3,1,1,161.86,100,1,1", "4,3,1,2,92.855,50,2,0",
                         "4,3,1,3,0,-17.2813564,3,1"]  # fmt: skip
    of_evaluations = np.array([line.split(",") for line in lines], float).reshape(4, 4, 8)
    for row, episodes in zip(rows, of_evaluations, strict=True):
        assert (episodes[:, 3] == range(4)).all()
        means = np.array(row.split(",")[:-1], float)  # step, seed and growth are those of each episode
        np.testing.assert_allclose(np.delete(episodes, 3, axis=1).mean(0), means, rtol=1e-6)


class Telling(OneStep):
    """Tells by a script who succeeded: as `Evaluator`, from the first evaluation on that knows of one."""

    tells_success = False
    script: list = []  # noqa: RUF012

    def run(self, act):
        successes = np.array(self.script.pop(0))[:, None]
        self.tells_success |= bool(successes.any())
        return dataclasses.replace(super().run(act), successes=successes if self.tells_success else None)


@pytest.mark.parametrize("stopped_at", [None, 4, 8, 12])
def test_success_may_be_told_late(start, tmp_path, stopped_at):
    """The columns are the same from the first row on."""
    own, told = dataclasses.replace(TASK, suite=OWN), [[False, False], [True, False], [False] * 2, [True] * 2]

    def run(last, since):
        evaluator = Telling(2)
        evaluator.script = told[since // 4 :]
        with TrainingLoop.resumed(start.again(), evaluator, own, Schedule(last, 4, 4, 4), files) as training:
            train(training)

    files = TrainingFiles(tmp_path)
    if stopped_at:
        run(stopped_at, 0)
    run(16, stopped_at or 0)
    with files.evaluations.open(newline="") as file:
        rates = [(row["step"], row["success_rate"]) for row in csv.DictReader(file)]
    steps = ("4", "4", "8", "8", "12", "12", "16", "16")
    assert rates == list(zip(steps, ("nan", "nan", "1", "0", "0", "0", "1", "1"), strict=True))


def test_rows_are_on_the_disk_before_their_checkpoint(start, tmp_path, monkeypatch):
    """Whenever a checkpoint takes its name, the files that were synced hold every row up to its step."""
    synced, replace, checked = {}, os.replace, []

    def note_sync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced[Path(path).name] = Path(path).read_text() if path.endswith(".csv") else ""

    def check(source, target):
        if target.parent.name == "checkpoints" and target.name.isdigit():
            step = int(target.name)
            for name, interval in (("metrics.csv", 4), ("evaluations.csv", 10), ("episodes.csv", 10)):
                steps = {int(row.split(",")[0]) for row in synced[name].splitlines()[1:]}
                assert steps >= set(range(interval, step + 1, interval))
            assert target.name + ".tmp" in synced  # and so is the checkpoint itself
            checked.append(step)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", check)
    training, _ = make_training(tmp_path, start.again(), SCHEDULE)
    with training:
        train(training)
    assert checked == [6, 12, 18, 24, 30, 36, 42]


def test_the_speed_is_of_all_that_was_done():
    """Not of what the bar showed last, which in a log is up to half a minute ago."""
    bar = progress_bar(100, "update", False)
    bar.start_t -= 10.0
    bar.update(20)
    assert speed_of(bar).startswith("2.00 updates/s, 00:4")  # 80 are left
    bar.update(20)
    assert speed_of(bar).startswith("4.00 updates/s, 00:1")
