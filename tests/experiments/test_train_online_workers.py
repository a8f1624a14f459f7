"""Processes of environments that halt in the midst of a run: it ends soon, and what was trained is saved."""

import signal
import subprocess
import sys
import time

import psutil
import pytest
from main_runs import ONLINE, environment_of_processes
from mistakes import ONLINE_ARGUMENTS, TD3

from xql_jax.envs.processes import STOPPING

MINUTE = 60.0


def wait_for(condition):
    deadline = time.monotonic() + 2 * MINUTE
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def steps(folder):
    """The steps of the checkpoints."""
    return sorted(int(path.name) for path in folder.rglob("checkpoints/*") if path.name.isdigit())


def started(folder, *arguments):
    command = [
        sys.executable, str(ONLINE), TD3, *ONLINE_ARGUMENTS, "--processes", "--num_environments=2",
        "--max_steps=1000000", "--checkpoint_interval=1000", f"--save_dir={folder}", *arguments,
    ]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment_of_processes(), **pipes)


def stop_a_worker(run):
    """Stops it for good; returns it."""
    children = psutil.Process(run.pid).children()
    worker = [child for child in children if "spawn_main" in " ".join(child.cmdline())][-1]
    worker.suspend()
    return worker


@pytest.mark.slow
def test_sigterm_ends_a_run_whose_worker_is_stopped(tmp_path):
    with started(tmp_path) as run:
        wait_for(lambda: steps(tmp_path))
        worker = stop_a_worker(run)
        time.sleep(1.0)  # for the run to wait for it
        before, told = steps(tmp_path), time.monotonic()
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=MINUTE)
        seconds = time.monotonic() - told
    assert (run.returncode, err) == (128 + signal.SIGTERM, "")
    assert seconds < 2 * STOPPING
    assert f"warning: environment 1 has not answered for {STOPPING:g} s after the run was told to stop" in out
    assert "stopped by SIGTERM; go on with --resume" in out
    assert not worker.is_running()
    (saved,) = set(steps(tmp_path)) - set(before)
    assert saved > before[-1]
    with started(tmp_path, "--resume") as run:
        wait_for(lambda: steps(tmp_path)[-1] > saved)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=MINUTE)
    assert (run.returncode, err) == (128 + signal.SIGINT, "")
    assert "warning" not in out


@pytest.mark.slow
def test_a_run_whose_worker_does_not_answer_in_time_ends_by_itself(tmp_path):
    with started(tmp_path, "--environment_timeout=15") as run:  # they must have started by then, too
        wait_for(lambda: steps(tmp_path))
        stop_a_worker(run)
        time.sleep(1.0)
        before = steps(tmp_path)
        _, err = run.communicate(timeout=MINUTE)
    assert run.returncode == 2
    assert err.startswith("error: environment 1 has not answered for 15 s: ")
    assert err.count("\n") == 1
    assert "--environment_timeout" in err
    assert steps(tmp_path)[-1] > before[-1]
