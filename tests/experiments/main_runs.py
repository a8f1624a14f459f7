"""Runs of experiments/train_offline.py: in a new process, or forked off one that has imported JAX."""

import contextlib
import dataclasses
import json
import os
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "experiments" / "train_offline.py"


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def run_process(arguments, cwd=None, timeout=120, **environment):
    """Runs the main as a user does."""
    run = subprocess.run(
        [sys.executable, str(MAIN), *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Outcome(run.returncode, run.stdout, run.stderr)


class ForkServer:
    """A process that has imported what the main imports, and forks a child for each run of it.

    The child runs the main's file as `__main__` with its own arguments, folder and streams; only the imports,
    and the two seconds that they take, are shared. No JAX backend is started before the fork.
    """

    def __init__(self, folder):
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )

    def run(self, arguments, cwd=None):
        out, err = self._folder / "out", self._folder / "err"
        request = {"argv": [str(MAIN), *arguments], "cwd": str(cwd or ROOT), "out": str(out), "err": str(err)}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        return Outcome(code, out.read_text(), err.read_text())

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=30)


def serve():
    import h5py  # noqa: F401
    import jax  # noqa: F401

    import xql_jax.data.pointmaze
    import xql_jax.training.offline_run  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(serve_one(request))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def serve_one(request):
    """In the child: what the interpreter does with a script, to the exit code."""
    for stream, path in ((1, request["out"]), (2, request["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
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
    """Every file under the folder, by name, as bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    serve()
