"""Trainings that are stopped, killed and damaged in any order end as the unbroken one, bit for bit.

Offline; online, in the compiled program; both in populations of several members, one of which diverges.
"""

import concurrent.futures
import functools
import itertools
import os
import random
import shutil
import signal
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from jax_point_mass import PointMass
from online_fakes import Counter
from training_runs import (
    TASK,
    OneStep,
    Start,
    make_growth,
    make_training,
    snapshot,
    train,
    untimed,
)

from xql_jax.training.checkpoints import TrainingFiles
from xql_jax.training.compiled_acting import CompiledActing
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.members import Member
from xql_jax.training.population import Population
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.schedule import ActingSchedule, Schedule

# Steps, and those between logs, evaluations and checkpoints.
SCHEDULE = 42, 4, 10, 6


class Killed(BaseException):
    """Stands in for SIGKILL: nothing between here and the machine catches it."""


class Offline:
    """Two members, of which the second (growth 4) diverges at update 32."""

    def __init__(self):
        self.start = Start(make_growth(seeds=[3], grid={"growth": [1.0, 4.0]}))

    def open(self, folder):
        return make_training(folder, self.start.again(), SCHEDULE)


class InProgram:
    """Two members that act in two compiled environments each; the second diverges at its 25th update."""

    programs = {}  # noqa: RUF012

    def open(self, folder):
        members = [Member(0, {"breaks_at": 1e9}), Member(1, {"breaks_at": 25.0})]
        schedule = ActingSchedule(
            num_environments=2, round_steps=2, buffer_size=16, batch_size=4, warmup_steps=6
        )
        folder.mkdir(parents=True, exist_ok=True)
        files = TrainingFiles(folder)
        acting = CompiledActing(PointMass(), schedule, ReplayFiles(files.replay))
        population = Population(Counter(), members, acting)
        population._programs = self.programs  # compiled once
        population.compile()
        evaluator = OneStep(2, 2)
        return TrainingLoop(population, evaluator, TASK, Schedule(*SCHEDULE), files), files


def outcome(training, files):
    assert training.progress.step == SCHEDULE[0]
    population = training.population
    buffers = [snapshot(group.members.buffer) for group in population.groups]
    leaves = [leaf.tobytes() for leaf in (*snapshot(population.states), *itertools.chain(*buffers))]
    rows = untimed(files.metrics), untimed(files.evaluations), files.episodes.read_text()
    return leaves, rows, dict(population.diverged)


class LateThread:
    """Stands in for the checkpoints' thread: it writes when it is waited for, and not at all once killed."""

    killed = False

    def submit(self, write, *arguments):
        future = concurrent.futures.Future()
        future.result = lambda: None if self.killed else write(*arguments)
        return future

    def shutdown(self):
        pass


def machine(kind):
    """Returns a machine over trainings of this kind."""
    with tempfile.TemporaryDirectory() as folder:
        training, files = kind.open(Path(folder) / "unbroken")
        with training:
            train(training, steps_per_call=2)
        expected = outcome(training, files)
        assert list(training.population.diverged) == [1]

    class Machine(RuleBasedStateMachine):
        @initialize(linked=st.booleans())
        def begin(self, linked):
            """In a folder, or in one that is reached by a symbolic link, as on a scratch disk."""
            self.folder = Path(tempfile.mkdtemp()) / "run"
            if linked:
                (self.folder.parent / "scratch").mkdir()
                self.folder.symlink_to("scratch")

        @rule(stop=st.integers(0, 21), call=st.sampled_from([2, 6, 100]), evaluating=st.booleans())
        def stop_by_a_signal(self, stop, call, evaluating):
            """After an update, or in the midst of an evaluation, which the next training repeats."""
            training, _ = kind.open(self.folder)
            owner, name = training.population, "advance"
            if evaluating:
                owner, name = training._evaluations.evaluator, "run"
            method = getattr(owner, name)

            def call_and_signal(argument):
                given = None if evaluating else method(argument)
                if training.population.step >= 2 * stop:
                    os.kill(os.getpid(), signal.SIGTERM)
                return method(argument) if evaluating else given

            setattr(owner, name, call_and_signal)
            with training:
                received = train(training, steps_per_call=call)
            delattr(owner, name)
            assert (received is signal.SIGTERM) or training.finished
            if received:
                assert self.intact()[-1] == training.progress.step
                assert not training.finished

        @rule(number=st.sampled_from([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]))
        def stop_while_it_compiles(self, number):
            training, _ = kind.open(self.folder)
            step, population = training.progress.step, training.population
            with (
                mock.patch.object(Population, "is_compiled", False),
                mock.patch.object(population, "compile", functools.partial(os.kill, os.getpid(), number)),
                training,
            ):
                received = train(training)
            assert training.finished or (received is number and training.progress.step == step)

        @rule(operation=st.integers(0, 40), late=st.booleans())
        def kill(self, operation, late):
            """Before an operation on states or files; late: before the last checkpoint's write, too."""
            training, files = kind.open(self.folder)
            thread, calls = LateThread(), itertools.count()
            if late:
                training._checkpoints._thread = thread

            def guard(owner, name):
                method = getattr(owner, name)

                def guarded(*arguments):
                    if next(calls) == operation:
                        thread.killed = True
                        raise Killed
                    return method(*arguments)

                setattr(owner, name, guarded)

            logs = training._rows._logs.values()
            for owner, name in (
                (training.population, "advance"),
                *((log, "write") for log in logs),
                (training._evaluations.evaluator, "run"),
                (training._checkpoints, "save"),
            ):
                guard(owner, name)
            try:
                with training:
                    train(training, steps_per_call=4)
            except Killed:
                for path in (files.metrics, files.evaluations, files.episodes):
                    with path.open("a") as file:
                        file.write("31,3,4,1.2")  # a row that the kill cut short
            del training.population.advance

        @precondition(lambda self: len(self.intact()) > 1)
        @rule(seed=st.integers(0, 1_000), way=st.sampled_from(["flip", "cut", "lose", "empty"]))
        def damage_the_last_checkpoint(self, seed, way):
            step = self.intact()[-1]
            files = sorted(p for p in (self.folder / "checkpoints" / str(step)).rglob("*") if p.is_file())
            path = random.Random(seed).choice(files)
            content = path.read_bytes()
            if way == "lose" or not content:
                path.unlink()
            elif way == "flip":
                place = seed % len(content)
                path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            else:
                path.write_bytes(content[: -1 if way == "cut" else 0])
            training, _ = kind.open(self.folder)
            with training:
                assert training.progress.step < step or way == "flip"  # white space in JSON may change

        @rule(name=st.sampled_from(["42.tmp", "12.tmp"]))
        def leave_an_unfinished_checkpoint(self, name):
            if steps := self.intact():
                shutil.copytree(
                    self.folder / "checkpoints" / str(steps[-1]),
                    self.folder / "checkpoints" / name,
                    dirs_exist_ok=True,
                )

        def intact(self):
            folder = self.folder / "checkpoints"
            names = [path.name for path in folder.iterdir()] if folder.exists() else []
            return sorted(int(name) for name in names if name.isdigit())

        def teardown(self):
            if not hasattr(self, "folder"):
                return
            training, files = kind.open(self.folder)
            with training:
                train(training, steps_per_call=6)
            assert outcome(training, files) == expected
            shutil.rmtree(self.folder.parent)

    return Machine


@pytest.mark.parametrize("kind", [Offline, InProgram])
def test_whatever_happens_the_training_ends_as_the_unbroken_one(kind, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no loss of power is tried here
    examples = int(os.environ.get("XQL_JAX_SIEGE", "8" if kind is Offline else "4"))
    options = settings(
        max_examples=examples,
        stateful_step_count=8,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine(kind()), settings=options)
