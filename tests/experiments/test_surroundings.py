"""What is wrong with the environment that a main runs in: one line with what to set, and exit code 2."""

from xql_jax.commands import surroundings

import ctypes
import errno
import os
import subprocess
import sys

import pytest
from main_runs import (
    COLLECT,
    EVALUATE,
    EXPORT,
    FIGURES,
    FINETUNE,
    INSPECT,
    MAIN,
    ONLINE,
    REPORT,
    environment_of_processes,
    run_process,
)
from mistakes import ONLINE_ARGUMENTS, TD3, assert_told

from xql_jax.errors import UserError

slow = pytest.mark.slow
GOOD = {
    "train": [MAIN, "--config.hidden_dims=(8,)", "--max_steps=4", "--eval_episodes=0"],
    "online": [ONLINE, TD3, *ONLINE_ARGUMENTS],
    "evaluate": [EVALUATE, "--random_policy", "--env_name=pointmaze-umaze-v0", "--episodes=1", "--notqdm"],
    "finetune": [
        FINETUNE, "--config.hidden_dims=(8,)", "--num_pretraining_steps=2", "--max_steps=4",
        "--eval_episodes=0",
    ],
    "export": [EXPORT, "run"],  # not there, but what surrounds a main is looked at first
    "report": [REPORT, "runs"],  # nor is this
    "figures": [FIGURES, "--figure=2"],
    "inspect": [INSPECT, "--env_name=pointmaze-umaze-v0"],
    "collect": [
        COLLECT, "--env_name=pointmaze-umaze-v0", "--policy=random", "--episodes=1", "--output=made.hdf5"
    ],
}  # fmt: skip
# By variable: what the line must say, and the mains that meet it.
VARIABLES = {
    "JAX_ENABLE_X64=maybe": (["invalid truth value"], GOOD.keys()),
    "JAX_DEFAULT_PRNG_IMPL=nonsense": (["unset it"], ["train", "inspect"]),
    "JAX_NUM_CPU_DEVICES=few": (["unset it"], ["train"]),
    "JAX_DEFAULT_MATMUL_PRECISION=nonsense": (["unset it"], ["figures"]),
    "MUJOCO_GL=nonsense": (["egl"], ["train", "online", "evaluate", "inspect"]),
    "JAX_PLATFORMS=cuda": (["available: ", "cpu"], ["train", "online", "figures"]),
    "JAX_PLATFORMS=nonsense": (["available: ", "cpu"], ["train", "online", "figures"]),
    "JAX_PLATFORMS=cpu,nonsense": (["available: ", "cpu"], ["train", "online"]),
    "XLA_FLAGS=--xla_nonsense=1": (["Unknown flag"], ["train", "online", "evaluate", "figures", "inspect"]),
    "XLA_FLAGS=nonsense": (["Could not open file"], ["train"]),
}
QUICK = {("JAX_ENABLE_X64=maybe", "inspect"), ("MUJOCO_GL=nonsense", "evaluate")}


def files(folder):
    """But for locks, which are made before all else, and stay."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize(
    ("variable", "main"),
    [
        pytest.param(variable, main, marks=[] if (variable, main) in QUICK else slow)
        for variable, (_, mains) in VARIABLES.items()
        for main in sorted(mains)
    ],
)
def test_a_wrong_variable_is_named(variable, main, tmp_path):
    if variable.startswith("JAX_PLATFORMS=cuda") and os.path.exists("/dev/nvidiactl"):
        pytest.skip("cuda is here")
    name, value = variable.split("=", 1)
    file, *arguments = GOOD[main]
    outcome = run_process(arguments, tmp_path, main=file, **{name: value})
    assert_told(outcome, [variable, *VARIABLES[variable][0]])
    assert not files(tmp_path)


@slow
@pytest.mark.parametrize("main", ["figures", "train", "inspect"])
def test_no_plot_asks_for_a_window(main, tmp_path):
    file, *arguments = GOOD[main]
    arguments += ["--plot=a.png"] if main == "inspect" else []
    outcome = run_process(arguments, tmp_path, main=file, MPLBACKEND="nonsense")
    assert (outcome.code, outcome.err) == (0, "")
    assert files(tmp_path)


@slow
def test_too_few_files_for_so_many_processes(tmp_path):
    many = ["--processes", "--num_environments=20", "--max_policy_lag=500", "--log_interval=100"]
    many += ["--checkpoint_interval=100"]
    words = " ".join(f"'{word}'" for word in [*GOOD["online"], *many])
    command = f"ulimit -n 40; exec {sys.executable} {words}"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment_of_processes(), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (
        2,
        "error: too many open files: a process may have 40 here; raise that (ulimit -n), or give fewer "
        "--num_environments or members\n",
    )


@slow
def test_nowhere_to_put_temporary_files(tmp_path):
    file, *arguments = GOOD["evaluate"]
    code = (
        "import runpy, sys, tempfile\n"
        "tempfile._candidate_tempdir_list = lambda: ['/nowhere']\n"
        f"sys.argv = {[str(file), *arguments]}\n"
        f"runpy.run_path({str(file)!r}, run_name='__main__')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment_of_processes(), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 2
    line = "no folder for temporary files can be written: set TMPDIR to one that can, on a disk with space"
    assert ended.stderr == f"error: {line}\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many open files: a process may have "),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a.npz"), "too many open files: "),
        (ImportError("lib.so: cannot open shared object file: Too many open files"), "too many open files: "),
        (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "refuses another process or thread"),
        (RuntimeError("can't start new thread"), "refuses another process or thread"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "not enough memory: Cannot allocate memory"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "set TMPDIR"),
        (IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), "a.csv"), "^a.csv: Is a directory$"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "^a file cannot be written: No space left"),
        (OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), b"a/b"), "^a/b: Not a directory$"),
        (UserError("as it is"), "^as it is$"),
    ],
)  # fmt: skip
def test_what_is_told(error, words):
    with pytest.raises(UserError, match=words):
        raise surroundings.told(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a mistake of the program's"),
        RuntimeError("a mistake of the program's"),
        AssertionError(),
        OSError(errno.EBADF, os.strerror(errno.EBADF)),
        OSError("neither number nor name"),
        KeyboardInterrupt(),
    ],
)
def test_what_is_not(error):
    assert surroundings.told(error) is None


def test_ctrl_c_within_c_code_is_no_error_of_the_surroundings(monkeypatch):
    """Ctypes quotes a KeyboardInterrupt in an ArgumentError, here of OpenGL's."""
    monkeypatch.setenv("MUJOCO_GL", "egl")

    class Interrupted:
        @classmethod
        def from_param(cls, value):
            raise KeyboardInterrupt

    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda value: value)
    function.argtypes = (Interrupted,)
    namespace = {"__name__": "OpenGL", "function": function}
    with pytest.raises(ctypes.ArgumentError, match="KeyboardInterrupt") as caught:
        exec("function(1)", namespace)
    assert surroundings.told(caught.value) is None
    caught.value.args = ("no such library",)
    assert "OpenGL does not work with that (no such library)" in str(surroundings.told(caught.value))
