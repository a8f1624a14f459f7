"""Whatever becomes of a run, it ends as the unbroken run does, to the bit, or says why it cannot."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from tiny_runs import (
    assert_same_bits,
    assert_same_rows,
    breaking,
    offline_settings,
    small,
    states_of,
    write_dataset,
)

from xql_jax.errors import Damaged, UserError
from xql_jax.runs.load import load_run
from xql_jax.runs.train import train_run as run_offline
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.signals import StopSignals

pytestmark = pytest.mark.slow
LENGTHS = (8, 12)  # of a run, and of the longer one that it may become
INTERVALS = {"log_interval": 2, "eval_interval": 3, "checkpoint_interval": 2, "checkpoint_minutes": 0}


def flip(path, at):
    content = bytearray(path.read_bytes())
    if content:
        content[at % len(content)] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a flipped bit": flip,
    "cut": lambda path, at: os.truncate(path, at % (path.stat().st_size + 1)),
    "zeros": lambda path, at: path.write_bytes(bytes(path.stat().st_size)),
    "gone": lambda path, at: path.unlink(),
}


@contextlib.contextmanager
def stopping_at(step):
    """Yields what stops a run after the call that ends at a step or later."""
    stop, train = StopSignals(), TrainingLoop._train

    def watched(loop, end):
        given = train(loop, end)
        if loop.population.step >= step:
            stop.request()
        return given

    with mock.patch.object(TrainingLoop, "_train", watched):
        yield stop


def read_all(path):
    """Raises UserError if a file of a run that reports and policies are made of is damaged."""
    run = load_run(path)
    for file in (run.files.metrics, run.files.evaluations, run.files.episodes):
        run.rows(file)
    _ = run.summary, run.preprocessing


class History(RuleBasedStateMachine):
    """A run of two seeds, of which anything may happen to some files between two commands."""

    folder: Path  # with the data
    whole: dict  # unbroken runs' summaries, by length

    def __init__(self):
        super().__init__()
        self.place = Path(tempfile.mkdtemp(dir=self.folder))
        self.length = LENGTHS[0]
        self.is_damaged = False  # since the run's checkpoints were last read
        self.path = None

    def settings(self, **changes):
        return run_settings(self.folder, self.length, save_dir=str(self.place), **changes)

    def train(self, stop=None, **changes):
        """Goes on with the run; what is damaged beyond the last whole checkpoint is told, and begun anew."""
        try:
            summary = run_offline(self.settings(resume=True, **changes), stop)
            if self.is_damaged and summary.had_ended:
                read_all(summary.path)
        except UserError:
            if not self.is_damaged:
                raise
            shutil.rmtree(self.path)
            summary = run_offline(self.settings(resume=True), stop)
        self.path = summary.path
        self.is_damaged = self.is_damaged and summary.had_ended  # then it read no checkpoint
        return summary

    @rule(step=st.sampled_from([2, 4, 6, 8, 10]), in_background=st.booleans())
    def stop(self, step, in_background):
        with stopping_at(step) as stop:
            self.train(stop, background_evaluation=in_background)

    @rule(in_background=st.booleans())
    def finish(self, in_background=False):
        summary = self.train(background_evaluation=in_background)
        expected = self.whole[self.length]
        assert summary.summary["status"] == "finished"
        with contextlib.suppress(*[Damaged] * self.is_damaged):
            assert_same_bits(states_of(summary, self.length), states_of(expected, self.length))
        assert_same_rows(summary, expected)
        for key in ("results", "diverged"):
            assert summary.summary[key] == expected.summary[key]
        run = load_run(summary.path)
        assert run.rows(run.files.evaluations)

    @precondition(lambda self: self.path and not self.is_damaged and self.length == LENGTHS[0])
    @rule()
    def lengthen(self):
        self.length = LENGTHS[1]

    @precondition(lambda self: self.path)
    @rule()
    def kill(self):
        """What a kill in the midst of a write leaves: no summary, half a row, half a checkpoint."""
        (self.path / "summary.json").unlink(missing_ok=True)
        with (self.path / "metrics.csv").open("a") as file:
            file.write("7,4")
        left = self.path / "checkpoints" / "6.tmp" / "members"
        left.mkdir(parents=True, exist_ok=True)
        (left / "half").write_bytes(b"\0" * 10)

    @precondition(lambda self: self.path)
    @rule(which=st.integers(0, 10**6), how=st.sampled_from(sorted(DAMAGE)), at=st.integers(0, 10**6))
    def damage(self, which, how, at):
        files = [path for path in sorted(self.path.rglob("*")) if path.is_file()]
        files = [path for path in files if path.name != ".lock" and "tb" not in path.parts]
        DAMAGE[how](files[which % len(files)], at)
        self.is_damaged = True

    @precondition(lambda self: self.path)
    @rule()
    def move(self):
        place = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.place, place, dirs_exist_ok=True)
        self.path, self.place = place / self.path.relative_to(self.place), place

    def teardown(self):
        self.finish()
        shutil.rmtree(self.place)


def run_settings(folder, length, **changes):
    changes = {"config": small("bc", decay_actor_lr=False), "num_seeds": 2, **INTERVALS, **changes}
    return offline_settings(folder, max_steps=length, eval_episodes=1, **changes)


def test_any_history_ends_as_the_unbroken_run(tmp_path, monkeypatch):
    """The second member's actions break late in episodes: at step 8 if it is the last, else at 9."""
    breaking(monkeypatch, {1: 7})
    write_dataset(tmp_path / "data.npz")
    History.folder = tmp_path
    History.whole = {
        length: run_offline(run_settings(tmp_path, length, save_dir=str(tmp_path / f"whole {length}")))
        for length in LENGTHS
    }
    assert [run.summary["results"][0]["diverged_seeds"] for run in History.whole.values()] == [[43], [43]]
    few = settings(
        max_examples=int(os.environ.get("XQL_JAX_HISTORIES", "10")),
        stateful_step_count=6,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(History, settings=few)
