"""The loop: what is due when, what it writes and says."""

import contextlib
import csv
import itertools

import numpy as np
import pytest
from loop_runs import SCHEDULE, Killed, assert_as_unbroken
from training_runs import TASK, OneStep, make_growth, make_training, train, untimed

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.rollout.evaluation import EpisodeResults
from xql_jax.training.checkpoints import TrainingFiles
from xql_jax.training.loop import Recording, TrainingLoop
from xql_jax.training.schedule import Schedule


def test_rows_of_an_unbroken_run(unbroken):
    _, metrics, evaluations = unbroken
    steps = [int(line.split(",")[0]) for line in metrics[1:]]
    assert steps == [4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28, 32, 36, 40, 42]  # one row from 32 on
    steps = [int(line.split(",")[0]) for line in evaluations[1:]]
    assert steps == [10, 10, 20, 20, 30, 30, 40, 40, 42, 42]
    assert metrics[0] == (
        "step,seed,growth,walk/square,walk/x,walk/z,walk/square_mean,walk/x_mean,walk/z_mean"
    )
    assert evaluations[0] == "step,seed,growth,return,score,length,diverged_at"


def test_rows_have_the_means_of_their_intervals(tmp_path):
    """x is 2^t after update t; the last row, at the run's end, is of two updates alone."""
    training, files = make_training(tmp_path, make_growth([0], growth=2.0), (10, 4, 10, 10))
    with training:
        train(training)
    with files.metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["walk/x"]) for row in rows] == [16, 256, 1024]
    assert [float(row["walk/x_mean"]) for row in rows] == [
        (2 + 4 + 8 + 16) / 4,
        (32 + 64 + 128 + 256) / 4,
        768,
    ]
    assert [float(row["walk/square_mean"]) for row in rows] == [85, 21760, (2**18 + 2**20) / 2]


@pytest.mark.parametrize("call", [7, 1000, None])
def test_cutting_into_calls_changes_nothing(start, unbroken, tmp_path, call):
    training, files = make_training(tmp_path, start.again(), SCHEDULE)
    with training:
        train(training, steps_per_call=call)
        assert_as_unbroken(training, files, unbroken)


def test_lines_of_a_run_without_evaluations(start, tmp_path, monkeypatch, caplog):
    """An update a second, a line every ten with the time left; the last update is told in any case."""
    population, now = start.again(), [0.0]
    advance = population.advance

    def slow_advance(last):
        now[0] += 1.0
        return advance(last)

    monkeypatch.setattr(population, "advance", slow_advance)
    monkeypatch.setattr("xql_jax.training.loop.time.monotonic", lambda: now[0])
    monkeypatch.setattr("xql_jax.training.progress.SECONDS_PER_LINE", 10.0)
    training, _ = make_training(tmp_path, population, (25, 100, 100, 1))
    training._evaluator = None
    monkeypatch.setattr(
        training._checkpoints, "save", lambda *arguments: None
    )  # what is said is asked, alone
    caplog.set_level("INFO")
    with training:
        train(training)
    assert [line for line in caplog.messages if line.startswith("update")] == [
        "update 10 of 25, 1.0 updates/s, about 15 s left",
        "update 20 of 25, 1.0 updates/s, about 5 s left",
        "update 25 of 25",
    ]


def test_seconds_add_up_over_resumptions(start, tmp_path, monkeypatch):
    clock = itertools.count(0, 2)  # every look takes 2 s, so an update call and an evaluation last 2 s each
    monkeypatch.setattr("xql_jax.training.loop.time.perf_counter", lambda: float(next(clock)))
    for max_steps in (6, 12):
        training, _ = make_training(tmp_path, start.again(), (max_steps, 3, 6, 6))
        with training:
            train(training, steps_per_call=3)
    assert (training.progress.update_seconds, training.progress.evaluation_seconds) == (8.0, 4.0)


def test_without_an_evaluator_there_are_no_evaluations(start, tmp_path):
    training, files = make_training(tmp_path, start.again(), (8, 4, 4, 4))
    training._evaluator = None
    with training:
        train(training)
    assert files.evaluations.read_text() == ""
    assert len(untimed(files.metrics)) == 1 + 2 * 2


def test_schedule():
    schedule = Schedule(max_steps=23, log_interval=4, eval_interval=10, checkpoint_interval=100)
    stops = [0]
    while stops[-1] < 23:
        stops.append(schedule.next_stop(stops[-1]))
    assert stops == [0, 4, 8, 10, 12, 16, 20, 23]
    assert schedule.next_stop(9) == 10
    assert [step for step in range(1, 24) if schedule.is_due(step, 4)] == [4, 8, 12, 16, 20, 23]
    assert [step for step in range(1, 24) if schedule.is_due(step, 100)] == [23]


def test_call_length_follows_the_clock(start, tmp_path, monkeypatch):
    """About a second of updates a call: here 0.2 s an update, so five updates after the first call."""
    population, now = start.again(), [0.0]
    advance, calls = population.advance, []

    def slow_advance(last):
        calls.append(last - population.step)
        now[0] += 0.2 * calls[-1]
        return advance(last)

    monkeypatch.setattr("xql_jax.training.loop.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(population, "advance", slow_advance)
    training, _ = make_training(tmp_path, population, (30, 20, 1000, 1000))
    with training:
        train(training)
    assert calls == [20, 5, 5]
    assert np.isclose(training.progress.update_seconds, 6.0)


def test_recordings_have_a_row_a_number_also_after_a_kill(start, tmp_path, monkeypatch):
    """Three numbers of each of two members every 4 updates and after the last."""

    def measured_until(name, until=10):
        population, measured = start.again(), []

        def measure():
            measured.append(population.step)
            return population.step + np.array([[0.5, 1.5, 2.5], [10.0, 20.0, 30.0]], np.float32)

        files = TrainingFiles(tmp_path / name)
        files.folder.mkdir(exist_ok=True)
        recording = Recording(files.folder / "sizes.csv", "size", 4, measure)
        loop = TrainingLoop(population, None, None, Schedule(10, 5, 10, 6), files, [recording])
        monkeypatch.setattr(population, "advance", killed_after(population.advance, until))
        with contextlib.suppress(Killed), loop:
            train(loop)
        monkeypatch.undo()
        return measured, (files.folder / "sizes.csv").read_text().splitlines()

    def killed_after(advance, until):
        def advance_or_die(stop):
            if stop > until:
                raise Killed
            return advance(stop)

        return advance_or_die

    measured, lines = measured_until("unbroken")
    assert measured == [4, 8, 10]
    assert lines[:2] == ["step,seed,growth,size", "4,3,1,4.5"]
    assert [float(line.rsplit(",", 1)[1]) for line in lines[1:7]] == [4.5, 5.5, 6.5, 14.0, 24.0, 34.0]
    assert len(lines) == 1 + 3 * 2 * 3
    assert measured_until("killed", until=8)[0] == [4, 8]
    measured, resumed = measured_until("killed")  # from the checkpoint of 6
    assert measured == [8, 10]
    assert resumed == lines


def test_success_rates_stand_where_a_task_knows_success(start, tmp_path):
    """The first member met the criterion in three of four episodes, the second in none."""

    class Judged(OneStep):
        def run(self, act):
            results = super().run(act)
            successes = np.array([[True, True, False, True], [False] * 4])
            return EpisodeResults(results.returns, results.lengths, successes, None)

    files = TrainingFiles(tmp_path)
    with TrainingLoop(start.again(), Judged(2), TASK, Schedule(4, 4, 4, 4), files) as training:
        train(training)
    header, *rows = untimed(files.evaluations)
    assert header == "step,seed,growth,return,score,length,success_rate,diverged_at"
    assert [row.split(",")[-2] for row in rows] == ["0.75", "0"]


def test_policies_see_observations_preprocessed(start, tmp_path):
    """`OneStep` shows 0.25 everywhere: shifted and doubled it is 4.5."""
    population = start.again()
    files = TrainingFiles(tmp_path)
    preprocessing = Preprocessing(observation_mean=(-2.0,) * 3, observation_std=(0.5,) * 3)
    evaluator = OneStep(2)
    schedule = Schedule(4, 4, 4, 4)
    with TrainingLoop(population, evaluator, TASK, schedule, files, preprocessing=preprocessing) as training:
        train(training)
    actions = population.policy()(np.full((2, 1, 3), 4.5, np.float32))
    expected = [f"{total:.9g}" for total in actions.astype(np.float64).sum((1, 2))]
    assert [row.split(",")[3] for row in untimed(files.evaluations)[1:]] == expected


def test_a_loop_closes_its_files_whatever_ended_it(start, tmp_path, monkeypatch):
    """The checkpoint in flight is written, and the error is that which ended the training."""

    def fail(stop):
        raise RuntimeError("of the training")

    training, files = make_training(tmp_path, start.again(), (40, 4, 40, 4))
    advance = training.population.advance
    monkeypatch.setattr(training.population, "advance", lambda stop: (advance if stop <= 8 else fail)(stop))
    with pytest.raises(RuntimeError, match="of the training"), training:
        train(training)
    assert training._rows._logs[files.metrics]._file.closed
    assert training._checkpoints.steps == [4, 8]
    assert training._checkpoints._thread._shutdown


def test_rows_beyond_the_checkpoint_are_dropped_and_others_rows_refused(start, unbroken, tmp_path):
    training, files = make_training(tmp_path, start.again(), SCHEDULE)
    with training:
        train(training, steps_per_call=1)
    whole = files.metrics.read_bytes()
    files.metrics.write_bytes(whole + b"43,9,9\n")
    make_training(tmp_path, start.again(), SCHEDULE)[0].close()
    assert files.metrics.read_bytes() == whole
    files.metrics.write_bytes(whole[:-40])  # as after a loss of power
    make_training(tmp_path, start.again(), SCHEDULE)[0].close()
    assert files.metrics.read_bytes() == whole
    edited = whole.replace(b"8,3,1,1", b"8,3,1,2", 1)
    files.metrics.write_bytes(edited)
    with pytest.raises(UserError, match="not as the run wrote it"):
        make_training(tmp_path, start.again(), SCHEDULE)
    assert files.metrics.read_bytes() == edited
