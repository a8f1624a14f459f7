"""Runs of the mains in experiments/: in a new process, or forked off one that has imported JAX."""

import contextlib
import dataclasses
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "experiments" / "train_offline.py"
ONLINE = ROOT / "experiments" / "train_online.py"
FINETUNE = ROOT / "experiments" / "train_finetune.py"
EXPORT = ROOT / "experiments" / "export.py"
EVALUATE = ROOT / "experiments" / "evaluate.py"
INSPECT = ROOT / "experiments" / "inspect_dataset.py"
COLLECT = ROOT / "experiments" / "collect.py"
CHOOSE = ROOT / "experiments" / "choose.py"
FIGURES = ROOT / "experiments" / "figures.py"
REPORT = ROOT / "experiments" / "report.py"
RUNS = ROOT / "experiments" / "runs.py"
SECONDS = 300  # after which a run is ended by SIGALRM


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@dataclasses.dataclass(frozen=True)
class Run:
    """What to run, where, and with which changes to the environment."""

    arguments: Sequence[str]
    main: Path = MAIN
    cwd: Path = ROOT
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


def environment_of_processes(**changes):
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def run_process(arguments, cwd=None, timeout=120, main=MAIN, **environment):
    """Runs the main as a user does."""
    run = subprocess.run(
        [sys.executable, str(main), *arguments],
        cwd=cwd,
        env=environment_of_processes(**environment),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Outcome(run.returncode, run.stdout, run.stderr)


class ForkServer:
    """A process that has imported what the mains import, and forks a child for each run of one.

    The child runs the main's file as `__main__` with its own arguments, folder and streams; only the imports,
    and the seconds that they take, are shared. No JAX backend is started before the fork. Its downloads have
    little patience.
    """

    def __init__(self, folder):
        self._folder = folder
        with (folder / "server").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment_of_processes(),
                text=True,
            )

    def run(self, arguments, cwd=None, main=MAIN, **environment):
        return self.run_all([Run(arguments, main, cwd or ROOT, environment)])[0]

    def run_all(self, runs, by_child=1):
        """The runs' outcomes; several children go on at once.

        Args:
            by_child: how many runs a child does, one after the other: for mistakes that end before they
                change anything. The first in a child takes several times as long as the next ones.
        """
        requests = [
            {
                "argv": [str(run.main), *run.arguments],
                "cwd": str(run.cwd),
                "environment": dict(run.environment),
                "out": str(self._folder / f"out{number}"),
                "err": str(self._folder / f"err{number}"),
            }
            for number, run in enumerate(runs)
        ]
        codes = self._ask([requests[start : start + by_child] for start in range(0, len(runs), by_child)])
        return [
            Outcome(code, Path(request["out"]).read_text(), Path(request["err"]).read_text())
            for code, request in zip(codes, requests, strict=True)
        ]

    def _ask(self, children):
        """The exit codes of the children's runs."""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(children), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, f"the server has ended: {(self._folder / 'server').read_text()}"
        return json.loads(answer)

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=30)


def serve():
    import gc

    import h5py  # noqa: F401
    import minari  # noqa: F401

    import xql_jax.commands.reporting
    import xql_jax.commands.training
    import xql_jax.data.pointmaze
    import xql_jax.figures.tables
    import xql_jax.reports.dataset_report
    import xql_jax.runs.offline
    import xql_jax.runs.online  # noqa: F401
    from xql_jax.data import loading

    loading.TIMEOUT, loading.ATTEMPTS = 1.0, 1
    gc.freeze()  # or each child's first collection copies all that was imported
    for line in sys.stdin:
        print(json.dumps(fork_all(json.loads(line))), flush=True)


def fork_all(children, at_once=2):
    """Forks a child for each list of requests; returns the requests' exit codes."""
    codes, running = {}, {}

    def wait():
        child, status = os.wait()
        number, told = running.pop(child)
        with told:
            found = json.loads(f"[{told.read().rstrip(',')}]")
        # A run that was ended by a signal, and those after it, have the signal's.
        codes[number] = found + [os.waitstatus_to_exitcode(status)] * (len(children[number]) - len(found))

    for number, requests in enumerate(children):
        while len(running) >= at_once:
            wait()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            for request in requests:
                os.write(writer, f"{serve_one(request)},".encode())
            os._exit(0)
        os.close(writer)
        running[child] = number, os.fdopen(reader)
    while running:
        wait()
    return [code for number in range(len(children)) for code in codes[number]]


def serve_one(request):
    """In the child: what the interpreter does with a script, to the exit code."""
    from absl import app, flags

    signal.alarm(SECONDS)
    for stream, path in ((1, request["out"]), (2, request["err"])):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    app.define_help_flags()  # which it does but once
    known, environment = set(flags.FLAGS), dict(os.environ)
    os.environ.update(request["environment"])
    code = 0
    try:
        runpy.run_path(request["argv"][0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os.environ.clear()
    os.environ.update(environment)
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    flags.FLAGS.unparse_flags()
    return code


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


if __name__ == "__main__":
    serve()
