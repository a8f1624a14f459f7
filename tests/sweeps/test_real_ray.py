"""Sweeps on two Ray nodes of this machine alone: whoever is killed, the bits are those of one machine."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from test_executors import ROOT, SECONDS, checkpoints, start_driver, until
from test_real_slurm import front_log, results
from tiny_sweeps import sweep_settings, train_all

from xql_jax.workshop.sweeps.plan import make_plan

pytestmark = pytest.mark.slow
HEAD, OTHER = "127.0.0.2", "127.0.0.3"  # Ray replaces 127.0.0.1 by the machine's address
METHODS = ("bc:hidden_dims=8:batch_size=32", "bc:hidden_dims=16:batch_size=32")
TASKS = {"methods": METHODS, "max_steps": 40_000, "eval_interval": 10_000, "checkpoint_interval": 500}
VARIABLES = {
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # a minute by default, once the head is dead
    "RAY_worker_niceness": "0",  # 15 by default: on a busy machine they would hardly train
}
START = (sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--num-gpus=0")
# Ends all that have the token, and their folder, once its input is closed: also if the tests are killed.
CLEANER = """cat
while them=$(grep -lsz "^RAY_AUTH_TOKEN=$1" /proc/[0-9]*/environ | cut -d/ -f3); [ "$them" ]; do
  kill -9 $them; sleep 0.1
done
rm -rf "$2"
"""


def start_cluster(address):
    head = ("--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false")
    for node, options in ((HEAD, head), (OTHER, (f"--address={address}",))):
        command = (*START, *options, f"--node-ip-address={node}", f"--object-store-memory={10**8}")
        subprocess.run(command, check=True, timeout=SECONDS, env={**os.environ, "NODE": node})


def processes(node, name=""):
    """Those of a node, whose program's name ends so."""
    of_it = {"NODE": node, "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}.items()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended
            if of_it <= process.environ().items() and "".join(process.cmdline()[:1]).endswith(name):
                found.append(process)
    return found


def kill(them):
    for process in them:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def workers(node, seen=()):
    """Those that train a run which has a checkpoint that was not seen."""
    found = []
    for process in processes(node, "ray::work"):
        with contextlib.suppress(psutil.Error):
            runs = [Path(file.path).parent for file in process.open_files() if file.path.endswith("/.lock")]
            if any({*run.glob("checkpoints/[1-9]*[0-9]")} - {*seen} for run in runs):
                found.append(process)
    return found


@pytest.fixture
def address(monkeypatch):
    """The address of a cluster of two nodes, each with one core."""
    token, folder = secrets.token_hex(32), tempfile.mkdtemp()
    cleaner = ("bash", "-c", CLEANER, "cleaner", token, folder)
    with subprocess.Popen(cleaner, stdin=subprocess.PIPE, start_new_session=True):
        for name, value in {**VARIABLES, "RAY_AUTH_TOKEN": token, "RAY_TMPDIR": folder}.items():
            monkeypatch.setenv(name, value)
        with socket.create_server((HEAD, 0)) as free:
            address = f"{HEAD}:{free.getsockname()[1]}"
        start_cluster(address)
        yield address


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    settings = sweep_settings(tmp_path_factory.mktemp("here"), **TASKS)
    train_all(settings)
    return results(settings)


def test_a_killed_raylet_and_a_killed_worker_lose_nothing(tmp_path, address, here):
    settings = sweep_settings(tmp_path, **TASKS, ray_address=address)
    driver = start_driver(settings)
    until(lambda: workers(OTHER), "training on the second node")
    kill(processes(OTHER, "/raylet"))
    seen = checkpoints(settings)
    kill(until(lambda: workers(HEAD, seen), "training on the first node"))
    assert driver.wait(SECONDS) == 0, front_log(settings)
    assert ": failed: " not in front_log(settings)
    assert sum(len(cell.run.record["resumed"]) for cell in make_plan(settings)) == 2
    assert results(settings) == here


def test_after_the_heads_death_the_same_command_goes_on_in_a_new_cluster(tmp_path, address, here):
    settings = sweep_settings(tmp_path, **TASKS, ray_address=address)
    driver = start_driver(settings)
    until(lambda: workers(HEAD), "training on the first node")
    kill(processes(HEAD))
    assert driver.wait(SECONDS) != 0
    until(lambda: not processes(OTHER, "/raylet"), "end of the second node")
    start_cluster(address)
    assert start_driver(settings).wait(SECONDS) == 0, front_log(settings)
    assert any(cell.run.record["resumed"] for cell in make_plan(settings))
    assert results(settings) == here
