"""Runs that are stopped, killed, damaged and moved in any order end as the unbroken one, bit for bit.

Offline; online, in the compiled program; both with several members, one of which diverges. A run says why it
cannot go on, if a file of it is damaged beyond the last whole checkpoint.
"""

import os
import random
import shutil
import signal
import tempfile
from pathlib import Path

import jax
import pytest
from driver import Driver
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from jax.experimental.compilation_cache import compilation_cache
from training_runs import ARRAYS

import xql_jax
from xql_jax.errors import UserError
from xql_jax.pictures import style

INTERVALS = {"max_steps": 42, "log_interval": 4, "eval_interval": 10, "checkpoint_interval": 6}
KINDS = {
    # The second member (growth 4) diverges at update 32.
    "offline": (
        xql_jax.train,
        {
            "env_name": "driver:Drift-v0", "dataset": ARRAYS, "method": "training_runs:Growth", "seed": 3,
            "sweep": {"growth": [1.0, 4.0]}, "batch_size": 4, "eval_episodes": 2,
        },
    ),
    # The second member diverges at its second update.
    "in the program": (
        xql_jax.train_online,
        {
            "env_name": "jax_point_mass:PointMass", "method": "td3", "hidden_dims": (), "batch_size": 4,
            "buffer_size": 16, "warmup_steps": 6, "num_environments": 2, "eval_episodes": 1,
            "sweep": {"critic_lr": [1e-3, 1e30]}, "bellman_error_interval": 0,
        },
    ),
}  # fmt: skip
SLOW = pytest.mark.slow
DAMAGES = {
    "flip": lambda content, at: content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :],
    "cut": lambda content, at: content[:at],
    "zeros": lambda content, at: bytes(len(content)),
    "gone": None,
}


def machine(kind):
    """Returns a machine over runs of this kind."""
    train, given = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        unbroken = Driver(train, Path(folder), given | INTERVALS)
        unbroken.resume()
        expected = unbroken.outcome()
    assert expected[2].count("diverged_seeds': []") == 1  # of one of two members

    class Machine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.run, self.is_damaged = Driver(train, Path(tempfile.mkdtemp()), given | INTERVALS), False

        def evaluated(self, behind):
            return {"background_evaluation": behind} if kind == "offline" else {}

        @property
        def has_begun(self):
            return any(self.run.place.rglob("config.json"))

        def go_on(self, how, **options):
            """What is damaged beyond the last whole checkpoint is told, and begun anew."""
            try:
                return how(**options)
            except UserError:
                if not self.is_damaged:
                    raise
            for path in self.run.place.iterdir():
                shutil.rmtree(path)
            self.is_damaged = False
            return how(**options)

        @rule(
            at=st.integers(0, 40),
            number=st.sampled_from([signal.SIGINT, signal.SIGTERM, signal.SIGHUP]),
            behind=st.booleans(),
        )
        def stop(self, at, number, behind):
            """In a compilation, after a row, or in the midst of an evaluation, maybe behind the training."""
            self.go_on(self.run.step, at=at, number=number, **self.evaluated(behind))

        @rule(at=st.integers(0, 300), late=st.booleans(), behind=st.booleans())
        def kill(self, at, late, behind):
            self.go_on(self.run.kill, at=at, late=late, **self.evaluated(behind))

        @precondition(lambda self: self.has_begun)
        @rule(seed=st.integers(0, 1_000), way=st.sampled_from(sorted(DAMAGES)), of_last=st.booleans())
        def damage(self, seed, way, of_last):
            """Any file of the run, or one of its last checkpoint."""
            folder, choice = self.run.path, random.Random(seed)
            if of_last and self.run.steps:
                folder = folder / "checkpoints" / str(self.run.steps[-1])
            files = sorted(p for p in folder.rglob("*") if p.is_file() and "tb" not in p.parts)
            path = choice.choice([path for path in files if path.name != ".lock"])
            content = path.read_bytes()
            self.is_damaged = True
            if way == "gone" or not content:
                path.unlink()
            else:
                path.write_bytes(DAMAGES[way](content, choice.randrange(len(content))))

        @precondition(lambda self: self.has_begun)
        @rule(is_linked=st.booleans())
        def move(self, is_linked):
            """To another folder, maybe one that is reached by a symbolic link, as on a scratch disk."""
            place = Path(tempfile.mkdtemp())
            shutil.move(self.run.place.resolve(), place / "moved")
            if is_linked:
                (place / "link").symlink_to("moved")
            self.run = Driver(train, place / ("link" if is_linked else "moved"), self.run.settings)

        def teardown(self):
            def finish():
                self.run.resume()
                return self.run.outcome()

            found = self.go_on(finish)
            assert found[: 3 if self.is_damaged else 4] == expected[: 3 if self.is_damaged else 4]
            shutil.rmtree(self.run.place.resolve())

    return Machine


@pytest.fixture(scope="module", autouse=True)
def _programs_are_compiled_once(tmp_path_factory):
    """Every process has a run compile its programs again: JAX's cache has them."""
    before = {name: getattr(jax.config, name) for name in (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )}  # fmt: skip
    after = str(tmp_path_factory.mktemp("programs")), 0.0, -1
    for values in (dict(zip(before, after, strict=True)), before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is not before:
            yield


@pytest.fixture(autouse=True)
def _quick_files(monkeypatch):
    """No loss of power is tried here, and no picture is looked at."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(style, "render", lambda figure, kind="png": b"")


@pytest.mark.parametrize(
    ("kind", "examples"),
    [("offline", 3), pytest.param("offline", 20, marks=SLOW), pytest.param("in the program", 8, marks=SLOW)],
)
def test_whatever_happens_the_run_ends_as_the_unbroken_one(kind, examples):
    options = settings(
        max_examples=int(os.environ.get("XQL_JAX_SIEGE", examples)),
        stateful_step_count=5,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine(kind), settings=options)


def test_one_history_online():
    """Killed while a checkpoint is written, which is damaged then; stopped; gone on with."""
    history = machine("in the program")()
    history.kill(at=130, late=True, behind=False)
    history.damage(seed=1, way="flip", of_last=True)
    history.stop(at=3, number=signal.SIGTERM, behind=False)
    history.teardown()
