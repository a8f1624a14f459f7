"""What online trainings leave, on the host and compiled, by the real main; stopped and broken ones go on."""

import contextlib
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from main_runs import (
    EVALUATE,
    ONLINE,
    ROOT,
    assert_every_documented_file,
    environment_of_processes,
    latest,
    rows,
    run_folder,
    strict_json,
    succeed,
)
from mistakes import ONLINE_ARGUMENTS, TD3

from xql_jax.envs.processes import STOPPING
from xql_jax.training.acting import NUM_ERRORS

pytestmark = pytest.mark.slow
MINUTE = 60.0
ON_HOST = (TD3, *ONLINE_ARGUMENTS, "--save_dir=runs")
COMPILED = (
    TD3, *ONLINE_ARGUMENTS, "--env_name=jax_point_mass:PointMass", "--num_environments=5", "--save_dir=runs",
)  # fmt: skip


@pytest.fixture(scope="module", params=[ON_HOST, COMPILED], ids=["host", "compiled"])
def online(request, tmp_path_factory):
    """A run that has ended: its arguments, and where it was trained."""
    folder = tmp_path_factory.mktemp("online")
    shutil.copy(ROOT / "tests" / "envs" / "jax_point_mass.py", folder)
    succeed(request.param, folder, main=ONLINE)
    return request.param, folder


def test_an_online_run_leaves_what_offline_runs_do_and_is_evaluated(online):
    arguments, folder = online
    run = run_folder(folder)
    assert_every_documented_file(run, 1, "replay", "bellman_errors.csv", "preprocessing.json")
    errors = [row["step"] for row in rows(run / "bellman_errors.csv")]
    assert errors == [step for step in ("100", "200") for _ in range(NUM_ERRORS)]
    assert [row["step"] for row in rows(run / "evaluations.csv")] == ["100", "200"]
    assert [row["step"] for row in rows(run / "metrics.csv")] == ["50", "100", "150", "200"]
    summary = strict_json(run / "summary.json")
    lag = 0 if arguments is COMPILED else 99
    assert (summary["status"], summary["step"], summary["policy_lag"]) == ("finished", 200, lag)
    evaluated = succeed([str(run), "--episodes=1"], folder, main=EVALUATE)
    assert "1 episodes of td3, 200 steps, " in evaluated


def wait_for(condition):
    deadline = time.monotonic() + 5 * MINUTE
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def steps(folder):
    """The steps of the checkpoints."""
    return sorted(int(path.name) for path in folder.rglob("checkpoints/*") if path.name.isdigit())


@contextlib.contextmanager
def started(folder, *arguments):
    """An online run in processes that would take hours."""
    given = [
        TD3, *ONLINE_ARGUMENTS, "--processes", "--num_environments=2",
        "--max_steps=1000000", "--checkpoint_interval=1000", f"--save_dir={folder}", *arguments,
    ]  # fmt: skip
    command = [sys.executable, str(ONLINE), *latest(given)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment_of_processes(), **pipes) as run:
        try:
            yield run
        finally:
            run.kill()


def test_sigterm_ends_a_run_whose_worker_is_stopped_and_it_goes_on(tmp_path):
    with started(tmp_path) as run:
        wait_for(lambda: steps(tmp_path))
        children = psutil.Process(run.pid).children()
        worker = [child for child in children if "spawn_main" in " ".join(child.cmdline())][-1]
        worker.suspend()
        time.sleep(1.0)  # for the run to wait for it
        before, told = steps(tmp_path), time.monotonic()
        run.send_signal(signal.SIGTERM)
        out, err = run.communicate(timeout=MINUTE)
        seconds = time.monotonic() - told
    assert (run.returncode, err) == (128 + signal.SIGTERM, "")
    assert seconds < 2 * STOPPING
    assert "stopped by SIGTERM; go on with --resume" in out
    assert not worker.is_running()
    saved = steps(tmp_path)[-1]
    assert saved >= before[-1]
    kept = rows(run_folder(tmp_path) / "metrics.csv")
    with started(tmp_path, "--resume") as run:
        wait_for(lambda: steps(tmp_path)[-1] > saved)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=MINUTE)
    assert (run.returncode, err) == (128 + signal.SIGINT, "")
    after = rows(run_folder(tmp_path) / "metrics.csv")
    assert after[: len(kept)] == kept
    assert [int(row["step"]) for row in after] == list(range(50, 50 * len(after) + 1, 50))
