"""Drives runs by public means alone: the mains and the Python interface, files, signals, and deaths.

A `Driver` opens a run, steps it until a signal, kills it, resumes it, and reads its outcome. Time is counted
in moments: a call of a callback, a step of `Drift`, a compilation, and each change of a file or folder.
"""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import gymnasium
import jax
import numpy as np
from absl import app, flags

import xql_jax
from xql_jax.runs.load import load_run

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
MAIN, ONLINE, FINETUNE, EVALUATE, INSPECT, COLLECT, FIGURES, REPORT = (
    EXPERIMENTS / f"{name}.py"
    for name in (
        *("train_offline", "train_online", "train_finetune", "evaluate"),
        *("inspect_dataset", "collect", "figures", "report"),
    )
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def environment_of_processes(**changes):
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def latest(arguments):
    """The arguments of which later ones replace those of the same flag, which a command line gives once."""
    places = {}
    for place, one in enumerate(map(str, arguments)):
        flag = re.sub(r"^--?(no)?(config\.)?|=.*", "", one)
        several = not one.startswith("-") or flag in ("dataset", "expert", "references", "set")
        places[place if several else flag] = place
    return [str(arguments[place]) for place in sorted(places.values())]


def run_process(arguments, cwd=None, timeout=120, main=MAIN, **environment):
    """Runs the main as a user does."""
    run = subprocess.run(
        [sys.executable, str(main), *latest(arguments)],
        cwd=cwd,
        env=environment_of_processes(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Outcome(run.returncode, run.stdout, run.stderr)


def run_main(arguments, cwd=ROOT, main=MAIN, **environment):
    """Runs the main in this process, as `__main__`: to import JAX again would take seconds each time."""
    app.define_help_flags()  # which it does but once
    known, code = set(flags.FLAGS), 0
    handlers, library = list(logging.root.handlers), vars(logging.getLogger("xql_jax")).copy()
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", [str(main), *latest(arguments)]),
        mock.patch.object(sys, "path", [str(main.parent), *sys.path]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(str(main), run_name="__main__")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            code = 1
    logging.root.handlers[:] = handlers
    vars(logging.getLogger("xql_jax")).update(library)
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(arguments, cwd=ROOT, main=MAIN, **environment):
    """What the main prints, which must end well."""
    outcome = run_main(arguments, cwd, main, **environment)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    return outcome.out


def write_dataset(path, size=120, **changes):
    """A small dataset for the point mazes, .npz or .hdf5; changes replace arrays, None leaves one out."""
    generator = np.random.default_rng(0)
    arrays = {
        "observations": generator.uniform(0.5, 3.5, (size, 4)).astype(np.float32),
        "actions": generator.uniform(-1, 1, (size, 2)).astype(np.float32),
        "rewards": generator.integers(0, 2, size).astype(np.float32),
        "terminals": np.zeros(size, bool),
        "timeouts": np.arange(size) % 40 == 39,
    }
    arrays = {key: array for key, array in {**arrays, **changes}.items() if array is not None}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        import h5py

        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array
    return path


def contents(folder):
    """Every file under the folder, by name, as bytes; None for a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def run_folder(folder):
    (config,) = folder.rglob("config.json")
    return config.parent


def rows(path):
    """Without the times, which differ."""
    with path.open(newline="") as file:
        return [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]


def strict_json(path):
    """The file's content; NaN and Infinity, which are not JSON, are refused as most other parsers do."""

    def refuse(constant):
        raise AssertionError(f"{path.name} holds {constant}")

    return json.loads(path.read_text(), parse_constant=refuse)


def assert_every_documented_file(run, members, *others):
    names = {path.name for path in run.iterdir() if path.suffix != ".lock"} - {".lock"}
    assert names == {
        *("config.json", "summary.json", "evaluations.csv", "episodes.csv", "metrics.csv"),
        *("learning_curve.png", "tb", "checkpoints", *others),
    }
    assert len(list((run / "tb").iterdir())) == members
    for path in run.rglob("*.json"):
        strict_json(path)


class Killed(BaseException):
    """Stands in for SIGKILL: nothing between here and the driver catches it, and no file changes after it."""


class Stopped(BaseException):
    """What a signal becomes that the run leaves to its caller."""


WATCHES = []  # called with each moment's name


def happens(name):
    for watch in WATCHES:
        watch(name)


class Drift(gymnasium.Env):
    """Three steps between three random numbers, which pay for the actions."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action):
        happens("step")
        return self.np_random.normal(size=3).astype(np.float32), float(action.sum()), False, False, {}


gymnasium.register("Drift-v0", entry_point=Drift, max_episode_steps=3)


@contextlib.contextmanager
def watched(watch):
    """Calls `watch` with each moment of a run, before what happens there."""

    def noted(name, do):
        def call(*given, **options):
            happens(name)
            return do(*given, **options)

        return call

    places = [(os, name) for name in ("replace", "fsync", "mkdir", "unlink", "rmdir")]
    with contextlib.ExitStack() as patches:
        for owner, name in (*places, (jax.stages.Lowered, "compile")):
            patches.enter_context(mock.patch.object(owner, name, noted(name, getattr(owner, name))))
        WATCHES.append(watch)
        patches.callback(WATCHES.remove, watch)
        yield


def failing(since, until=None):
    """As `watched`: the environment fails in these of its steps, counted from 0; None: for ever.

    The first six are those that are tried before a run begins; a run from data tries 32 more.
    """
    steps = itertools.count()

    def watch(name):
        if name == "step" and since <= next(steps) < (until or sys.maxsize):
            raise RuntimeError("it stands still")

    return watched(watch)


@dataclasses.dataclass(frozen=True)
class Driver:
    """A run of one of the interface's functions with its settings, in a folder; opening it begins nothing."""

    train: Callable[..., xql_jax.Policy]
    place: Path
    settings: dict

    def resume(self, callback=lambda step, numbers: None, **changes):
        """Begins the run or goes on with it, to its end; returns its folder."""

        def call_back(step, numbers):
            happens("row")
            return callback(step, numbers)

        given = {"save_dir": self.place, "progress": False, "callbacks": [call_back]}
        return self.train(**given | self.settings | changes).path

    def step(self, at, number=signal.SIGTERM, of=("row", "step", "compile"), **changes):
        """As `resume`, but at that moment (the first is 0) a signal comes. The run saves before it ends."""
        moments = itertools.count()

        def watch(name):
            if name in of and next(moments) == at:
                os.kill(os.getpid(), number)

        def heard(number, frame):
            raise Stopped

        previous = {one: signal.signal(one, heard) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            with watched(watch), contextlib.suppress(Stopped, KeyboardInterrupt):
                self.resume(**changes)
        finally:
            for one, handler in previous.items():
                signal.signal(one, handler)

    def kill(self, at, late=False, **changes):
        """As `resume`, but at that moment the run is killed. A row of each file is cut short.

        Not if the run had written its summary, which comes after its last row.

        late: checkpoints are written by their thread when the training has gone on.
        """
        moments, is_dead = itertools.count(), threading.Event()

        def watch(name):
            if late and name == "mkdir" and threading.current_thread() is not threading.main_thread():
                time.sleep(0.02)
            if is_dead.is_set() or next(moments) == at:
                is_dead.set()
                raise Killed

        with watched(watch), contextlib.suppress(Killed):
            self.resume(**changes)
        for path in self.place.glob("*/*/*/*.csv") if is_dead.is_set() else ():
            if not path.with_name("summary.json").exists():
                with path.open("a") as file:
                    file.write("31,3,4,1.2")

    @property
    def path(self):
        """The run's folder."""
        return run_folder(self.place)

    @property
    def steps(self):
        """The steps of the checkpoints."""
        return checkpoint_steps(self.path)

    def outcome(self):
        return outcome(self.path)


def checkpoint_steps(run):
    return sorted(int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdigit())


def outcome(path):
    """What must not depend on a run's history: states to the bit, rows but for seconds, results, buffers."""
    run, buffers = load_run(path), {}
    states = {
        f"{name}{jax.tree_util.keystr(at)}": (leaf.dtype, leaf.shape, leaf.tobytes())
        for name, tree in run.states.items()
        for at, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }
    files = run.files.metrics, run.files.evaluations, run.files.episodes
    rows = [repr(run.rows(file)) for file in files]
    results = {name: run.summary[name] for name in ("status", "step", "results", "diverged")}
    for file in sorted((path / "replay").rglob("*.npz")):  # later files may replace the end of earlier ones
        first = int(file.name.split("-")[0])
        for name, field in np.load(file).items():
            buffer = buffers.setdefault(f"{file.parent.name} {name}", {})
            buffer.update(enumerate(map(bytes, field), first))
    size = run.record.get("buffer_size", sys.maxsize)  # a kill may leave files of earlier rows
    return (
        states,
        rows,
        repr(results),
        {name: dict([*kept.items()][-size:]) for name, kept in buffers.items()},
    )
