"""Runs of the mains in experiments/, here or in a process of their own, and the files that they leave."""

import contextlib
import csv
import dataclasses
import io
import json
import logging
import os
import re
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from unittest import mock

import numpy as np
from absl import app, flags

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
MAIN, ONLINE, FINETUNE, EXPORT, EVALUATE, INSPECT, COLLECT, CHOOSE, FIGURES, REPORT = (
    EXPERIMENTS / f"{name}.py"
    for name in (
        *("train_offline", "train_online", "train_finetune", "export", "evaluate"),
        *("inspect_dataset", "collect", "choose", "figures", "report"),
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
