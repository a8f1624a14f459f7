"""A run that was broken off, by whatever and wherever, leaves the files and states of an unbroken one."""

import errno
import os
import signal
from pathlib import Path

import pytest
from loop_runs import SCHEDULE, assert_as_unbroken
from training_runs import assert_same_bits, make_training, train, untimed

from xql_jax.errors import UserError


@pytest.mark.parametrize("stop", [1, 4, 9, 10, 12, 31, 32, 33, 41])
def test_sigterm_after_an_update(start, unbroken, tmp_path, monkeypatch, stop):
    population = start.again()
    with monkeypatch.context() as patch:
        stop_after(population, stop, patch)
        training, files = make_training(tmp_path, population, SCHEDULE)
        with training:
            received = train(training, steps_per_call=1)
    assert received is signal.SIGTERM
    assert training.progress.step == training._checkpoints.steps[-1] == stop

    resumed, _ = make_training(tmp_path, start.again(), SCHEDULE)
    assert resumed.progress == training.progress
    with resumed:
        assert train(resumed, steps_per_call=5) is None
        assert_as_unbroken(resumed, files, unbroken)


@pytest.mark.parametrize("stop", [10, 42])
def test_sigterm_in_the_midst_of_an_evaluation(start, unbroken, tmp_path, stop):
    """The evaluation is left to the resumed run, also if that is stopped there too, or killed after it."""
    for attempt in range(2):
        training, files = make_training(tmp_path, start.again(), SCHEDULE)
        evaluate = training._evaluator.run

        def evaluate_and_signal(act, training=training, evaluate=evaluate):
            if training.progress.step == stop:
                os.kill(os.getpid(), signal.SIGTERM)
            return evaluate(act)

        training._evaluator.run = evaluate_and_signal
        with training:
            assert train(training, steps_per_call=5) is signal.SIGTERM, attempt
        assert (training.progress.step, training.progress.evaluation_due) == (stop, True)
        assert not training.finished
        assert f"\n{stop}," not in files.evaluations.read_text()
    with files.evaluations.open("a") as file:
        header = "" if file.tell() else "step,seed,growth,return,score,length,diverged_at,seconds\n"
        file.write(f"{header}{stop},0,9,9,9,9,,9\n")  # a kill cut the next evaluation short after a row
    resumed, _ = make_training(tmp_path, start.again(), SCHEDULE)
    with resumed:
        assert train(resumed, steps_per_call=5) is None
    assert resumed.finished
    assert untimed(files.metrics) == unbroken[1]
    assert untimed(files.evaluations) == unbroken[2]
    assert_same_bits(resumed.population.states, unbroken[0])


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
    training, files = make_training(tmp_path, population, (42, 4, 10, 20, minutes))
    save = training._checkpoints.save

    def save_and_note(items, progress, write_more):
        found.append(progress.step)
        save(items, progress, write_more)

    monkeypatch.setattr(training._checkpoints, "save", save_and_note)
    with training:
        train(training, steps_per_call=1)
        assert found == saved
        assert_as_unbroken(training, files, unbroken)


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
    with training:
        train(training)
    assert checked == [6, 12, 18, 24, 30, 36, 42]


def test_an_error_of_the_checkpoints_thread_ends_the_run(start, unbroken, tmp_path, monkeypatch):
    def refuse():
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    training, files = make_training(tmp_path, start.again(), SCHEDULE)
    monkeypatch.setattr(training._rows._tensorboard, "flush", refuse)
    with pytest.raises(UserError, match=r"cannot write .*/6: Input/output error"), training:
        train(training, steps_per_call=1)
    assert training.progress.step == 12  # at the next checkpoint
    resumed, _ = make_training(tmp_path, start.again(), SCHEDULE)
    assert resumed.progress.step == 0
    with resumed:
        train(resumed, steps_per_call=5)
        assert_as_unbroken(resumed, files, unbroken)
