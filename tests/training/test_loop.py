"""The loop: what is due when, and that a broken run's files and states are those of an unbroken one."""

import concurrent.futures
import contextlib
import errno
import itertools
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from training_runs import TASK, Start, assert_same_bits, make_growth, make_training, snapshot, untimed

from xql_jax.errors import UserError
from xql_jax.training.loop import Recording, Schedule, TrainingLoop
from xql_jax.training.population import Divergence
from xql_jax.training.run_folder import RunFolder

# Updates, and those between logs, evaluations and checkpoints. Member 1 (growth 4) diverges at update 32.
SCHEDULE = 42, 4, 10, 6
SEEDED = {"seeds": [3], "grid": {"growth": [1.0, 4.0]}}


class Killed(BaseException):
    """Stands in for SIGKILL: nothing between here and the test catches it."""


@pytest.fixture(scope="module")
def start():
    return Start(make_growth(**SEEDED))


@pytest.fixture(scope="module")
def unbroken(start, tmp_path_factory):
    """States, metrics.csv and evaluations.csv of a run that nobody disturbed, made in calls of one update."""
    training, folder = make_training(tmp_path_factory.mktemp("unbroken"), start.again(), SCHEDULE)
    training.run(show_progress=False, steps_per_call=1)
    training.close()
    return snapshot(training.population.states), untimed(folder.metrics), untimed(folder.evaluations)


def assert_as_unbroken(training, folder, unbroken):
    states, metrics, evaluations = unbroken
    assert training.progress.step == SCHEDULE[0]
    assert_same_bits(training.population.states, states)
    assert untimed(folder.metrics) == metrics
    assert untimed(folder.evaluations) == evaluations
    assert training.population.diverged == {1: Divergence(32, "walk/square")}
    restored, progress = training._checkpoints.restore(training.population.states)
    assert_same_bits(restored, states)
    assert (progress.step, progress.diverged) == (42, {"1": {"step": 32, "quantity": "walk/square"}})


def test_rows_of_an_unbroken_run(unbroken):
    _, metrics, evaluations = unbroken
    steps = [int(line.split(",")[0]) for line in metrics[1:]]
    assert steps == [4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28, 32, 36, 40, 42]  # one row from 32 on
    steps = [int(line.split(",")[0]) for line in evaluations[1:]]
    assert steps == [10, 10, 20, 20, 30, 30, 40, 40, 42, 42]
    assert metrics[0] == "step,seed,growth,walk/square,walk/x,walk/z"
    assert evaluations[0] == "step,seed,growth,return,score,length,diverged_at"


@pytest.mark.parametrize("call", [7, 1000, None])
def test_cutting_into_calls_changes_nothing(start, unbroken, tmp_path, call):
    training, folder = make_training(tmp_path, start.again(), SCHEDULE)
    training.run(show_progress=False, steps_per_call=call)
    assert_as_unbroken(training, folder, unbroken)
    training.close()


@pytest.mark.parametrize("stop", [1, 4, 9, 10, 12, 31, 32, 33, 41])
def test_sigterm_after_an_update(start, unbroken, tmp_path, monkeypatch, stop):
    population = start.again()
    with monkeypatch.context() as patch:
        stop_after(population, stop, patch)
        training, folder = make_training(tmp_path, population, SCHEDULE)
        received = training.run(show_progress=False, steps_per_call=1)
        training.close()
    assert received is signal.SIGTERM
    assert training.progress.step == training._checkpoints.latest_step == stop

    resumed, _ = make_training(tmp_path, start.again(), SCHEDULE)
    assert resumed.progress == training.progress
    assert resumed.run(show_progress=False, steps_per_call=5) is None
    assert_as_unbroken(resumed, folder, unbroken)
    resumed.close()


@pytest.mark.parametrize("stop", [10, 42])
def test_sigterm_in_the_midst_of_an_evaluation(start, unbroken, tmp_path, stop):
    """The evaluation is left to the resumed run, also if that is stopped there too, or killed after it."""
    for attempt in range(2):
        training, folder = make_training(tmp_path, start.again(), SCHEDULE)
        evaluate = training._evaluator.run

        def evaluate_and_signal(act, training=training, evaluate=evaluate):
            if training.progress.step == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            return evaluate(act)

        training._evaluator.run = evaluate_and_signal
        assert training.run(show_progress=False, steps_per_call=5) is signal.SIGTERM, attempt
        training.close()
        assert (training.progress.step, training.progress.evaluation_due) == (stop, True)
        assert not training.finished
        assert f"\n{stop}," not in folder.evaluations.read_text()
    with folder.evaluations.open("a") as file:
        header = "" if file.tell() else "step,seed,growth,return,score,length,diverged_at,seconds\n"
        file.write(f"{header}{stop},0,9,9,9,9,,9\n")  # a kill cut the next evaluation short after a row
    resumed, _ = make_training(tmp_path, start.again(), SCHEDULE)
    assert resumed.run(show_progress=False, steps_per_call=5) is None
    assert resumed.finished
    assert untimed(folder.metrics) == unbroken[1]
    assert untimed(folder.evaluations) == unbroken[2]
    assert_same_bits(resumed.population.states, unbroken[0])
    resumed.close()


class LateThread:
    """Stands in for the checkpoints' thread: it writes when it is waited for, and not at all once killed."""

    killed = False

    def submit(self, write, *arguments):
        future = concurrent.futures.Future()
        future.result = lambda: None if self.killed else write(*arguments)
        return future

    def shutdown(self):
        pass


def killed_at(number, training, thread):
    """Lets the training be killed before its call `number` of anything that changes states or files."""
    calls = itertools.count()

    def guard(owner, name):
        method = getattr(owner, name)

        def guarded(*arguments):
            if next(calls) == number:
                thread.killed = True
                raise Killed(f"before {name}")
            return method(*arguments)

        setattr(owner, name, guarded)

    for owner, name in (
        (training.population, "advance"),
        (training._metrics_csv, "write"),
        (training._evaluations_csv, "write"),
        (training._evaluator, "run"),
        (training._checkpoints, "save"),
    ):
        guard(owner, name)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("first", range(0, 55, 4))
def test_killed_twice_between_any_two_operations(start, unbroken, tmp_path, first, late):
    """55 operations make the run; it is killed before one, resumed, and killed again four later.

    With a late thread the kill comes before the write of the last checkpoint has begun.
    """
    folder = None
    for number in (first, 4):
        training, folder = make_training(tmp_path, start.again(), SCHEDULE)
        thread = LateThread()
        if late:
            training._checkpoints._thread = thread
        killed_at(number, training, thread)
        with pytest.raises(Killed):
            training.run(show_progress=False, steps_per_call=5)
        training.close()
        del training.population.advance  # the guard
        for path, torn in ((folder.metrics, "31,3,4,1.2"), (folder.evaluations, "4")):
            with path.open("a") as file:
                file.write(torn)  # a row that the kill cut short
    resumed, _ = make_training(tmp_path, start.again(), SCHEDULE)
    resumed.run(show_progress=False, steps_per_call=5)
    assert_as_unbroken(resumed, folder, unbroken)
    resumed.close()


@pytest.mark.parametrize("damaged", [["31"], ["31", "30"], ["31", "30", "24"]])
def test_damaged_checkpoints_cost_time_and_nothing_else(
    start, unbroken, tmp_path, monkeypatch, capsys, damaged
):
    population = start.again()
    stop_after(population, 31, monkeypatch)
    training, folder = make_training(tmp_path, population, SCHEDULE)
    assert training.run(show_progress=False, steps_per_call=1) is signal.SIGTERM
    training.close()
    monkeypatch.undo()
    assert sorted(path.name for path in (folder.path / "checkpoints").iterdir()) == ["24", "30", "31"]
    for step in damaged:
        for path in (folder.path / "checkpoints" / step / "states").rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[:-1])
    capsys.readouterr()
    if len(damaged) == 3:
        before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}
        with pytest.raises(UserError, match=r"checkpoint .*31: damaged: .*, nor can the 2 before it"):
            make_training(tmp_path, start.again(), SCHEDULE)
        assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
        return
    resumed, _ = make_training(tmp_path, start.again(), SCHEDULE)
    assert resumed.progress.step == {1: 30, 2: 24}[len(damaged)]
    assert capsys.readouterr().out.count("warning: checkpoint") == len(damaged)
    assert int(untimed(folder.metrics)[-1].split(",")[0]) <= resumed.progress.step
    resumed.run(show_progress=False, steps_per_call=5)
    assert_as_unbroken(resumed, folder, unbroken)
    resumed.close()


def stop_after(population, step, monkeypatch):
    """Sends this process SIGTERM after an update."""
    advance = population.advance

    def advance_and_signal(last):
        metrics = advance(last)
        if last == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return metrics

    monkeypatch.setattr(population, "advance", advance_and_signal)


@pytest.mark.parametrize(
    ("minutes", "saved"),
    [
        (0.0, [20, 40, 42]),
        (7.0, [7, 14, 20, 27, 34, 40, 42]),  # an update takes a minute; from step 20 on they count anew
        (15.0, [15, 20, 35, 40, 42]),
        (1e9, [20, 40, 42]),
    ],
)
def test_checkpoints_by_the_clock(start, unbroken, tmp_path, monkeypatch, minutes, saved):
    population, now, found = start.again(), [1000.0], []
    advance = population.advance

    def slow_advance(last):
        now[0] += 60.0
        return advance(last)

    monkeypatch.setattr(population, "advance", slow_advance)
    monkeypatch.setattr("xql_jax.training.loop.time.monotonic", lambda: now[0])
    training, folder = make_training(tmp_path, population, (42, 4, 10, 20, minutes))
    save = training._checkpoints.save

    def save_and_note(states, progress, sync_logs):
        found.append(progress.step)
        save(states, progress, sync_logs)

    monkeypatch.setattr(training._checkpoints, "save", save_and_note)
    training.run(show_progress=False, steps_per_call=1)
    assert found == saved
    assert_as_unbroken(training, folder, unbroken)
    training.close()


def test_killed_after_a_checkpoint_by_the_clock(start, unbroken, tmp_path):
    """At an update that is no multiple of anything, within a call's rows."""
    training, folder = make_training(tmp_path, start.again(), (*SCHEDULE[:3], 1000, 1e-9))
    killed_at(23, training, LateThread())
    with pytest.raises(Killed):
        training.run(show_progress=False, steps_per_call=3)
    training.close()
    del training.population.advance  # the guard
    resumed, _ = make_training(tmp_path, start.again(), SCHEDULE)
    assert resumed.progress.step % 2 == 1
    resumed.run(show_progress=False, steps_per_call=5)
    assert_as_unbroken(resumed, folder, unbroken)
    resumed.close()


def test_rows_are_on_the_disk_before_their_checkpoint(start, tmp_path, monkeypatch):
    """Whenever a checkpoint takes its name, the files that were synced hold every row up to its step."""
    synced, replace = {}, os.replace

    def note_sync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced[Path(path).name] = Path(path).read_text() if path.endswith(".csv") else ""

    def check(source, target):
        if target.parent.name == "checkpoints" and target.name.isdigit():
            step = int(target.name)
            steps = {name: [int(row.split(",")[0]) for row in synced[name].splitlines()[1:]]
                     for name in ("metrics.csv", "evaluations.csv")}  # fmt: skip
            assert set(steps["metrics.csv"]) >= set(range(4, step + 1, 4))
            assert set(steps["evaluations.csv"]) >= set(range(10, step + 1, 10))
            assert target.name + ".tmp" in synced  # and so is the checkpoint itself
            checked.append(step)
        replace(source, target)

    checked = []
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", check)
    training, _ = make_training(tmp_path, start.again(), SCHEDULE)
    training.run(show_progress=False)
    training.close()
    assert checked == [6, 12, 18, 24, 30, 36, 42]


def test_an_error_of_the_checkpoints_thread_ends_the_run(start, unbroken, tmp_path, monkeypatch):
    def refuse():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    training, folder = make_training(tmp_path, start.again(), SCHEDULE)
    monkeypatch.setattr(training, "_sync_logs", refuse)
    with pytest.raises(UserError, match=r"cannot write .*/6: Input/output error"):
        training.run(show_progress=False, steps_per_call=1)
    assert training.progress.step == 12  # at the next checkpoint
    training.close()
    resumed, _ = make_training(tmp_path, start.again(), SCHEDULE)
    assert resumed.progress.step == 0
    resumed.run(show_progress=False, steps_per_call=5)
    assert_as_unbroken(resumed, folder, unbroken)
    resumed.close()


def test_lines_of_a_run_without_evaluations(start, tmp_path, monkeypatch, capsys):
    """A checkpoint every second, a line every ten; the last update is told in any case."""
    population, now = start.again(), [0.0]
    advance = population.advance

    def slow_advance(last):
        now[0] += 1.0
        return advance(last)

    monkeypatch.setattr(population, "advance", slow_advance)
    monkeypatch.setattr("xql_jax.training.loop.time.monotonic", lambda: now[0])
    training, _ = make_training(tmp_path, population, (25, 100, 100, 1))
    training._evaluator = None
    training.run(show_progress=False)
    training.close()
    assert capsys.readouterr().out.split("\n") == ["update 1", "update 11", "update 21", "update 25", ""]


def test_seconds_add_up_over_resumptions(start, tmp_path, monkeypatch):
    clock = itertools.count(0, 2)  # every look takes 2 s, so an update call and an evaluation last 2 s each
    monkeypatch.setattr("xql_jax.training.loop.time.perf_counter", lambda: float(next(clock)))
    for max_steps in (6, 12):
        training, _ = make_training(tmp_path, start.again(), (max_steps, 3, 6, 6))
        training.run(show_progress=False, steps_per_call=3)
        training.close()
    assert (training.progress.update_seconds, training.progress.evaluation_seconds) == (8.0, 4.0)


def test_without_an_evaluator_there_are_no_evaluations(start, tmp_path):
    training, folder = make_training(tmp_path, start.again(), (8, 4, 4, 4))
    training._evaluator = None
    training.run(show_progress=False)
    training.close()
    assert folder.evaluations.read_text() == ""
    assert len(untimed(folder.metrics)) == 1 + 2 * 2


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
    training.run(show_progress=False)
    training.close()
    assert calls == [20, 5, 5]
    assert np.isclose(training.progress.update_seconds, 6.0)


def test_recordings_have_a_row_a_number_also_after_a_kill(start, tmp_path, monkeypatch):
    """Three numbers of each of two members every 4 updates and after the last."""

    def train(name, until=10):
        population, measured = start.again(), []

        def measure():
            measured.append(population.step)
            return population.step + np.array([[0.5, 1.5, 2.5], [10.0, 20.0, 30.0]], np.float32)

        folder = RunFolder(tmp_path / name, TASK.name, "growth", [0], {})
        folder.path.mkdir(parents=True, exist_ok=True)
        recording = Recording(folder.path / "sizes.csv", "size", 4, measure)
        loop = TrainingLoop(population, None, None, Schedule(10, 5, 10, 6), folder, [recording])
        monkeypatch.setattr(population, "advance", killed_after(population.advance, until))
        with contextlib.suppress(Killed):
            loop.run(show_progress=False)
        loop.close()
        monkeypatch.undo()
        return measured, (folder.path / "sizes.csv").read_text().splitlines()

    def killed_after(advance, until):
        def advance_or_die(stop):
            if stop > until:
                raise Killed
            return advance(stop)

        return advance_or_die

    measured, lines = train("unbroken")
    assert measured == [4, 8, 10]
    assert lines[:2] == ["step,seed,growth,size", "4,3,1,4.5"]
    assert [float(line.rsplit(",", 1)[1]) for line in lines[1:7]] == [4.5, 5.5, 6.5, 14.0, 24.0, 34.0]
    assert len(lines) == 1 + 3 * 2 * 3
    assert train("killed", until=8)[0] == [4, 8]
    measured, resumed = train("killed")  # from the checkpoint of 6
    assert measured == [8, 10]
    assert resumed == lines
