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

from xql_jax.sweeps.plan import make_plan

pytestmark = pytest.mark.slow
METHODS = ("bc:hidden_dims=8:batch_size=32", "bc:hidden_dims=16:batch_size=32")
TASKS = {"methods": METHODS, "max_steps": 40_000, "eval_interval": 10_000, "checkpoint_interval": 500}
START = (
    *(sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--num-gpus=0"),
    *("--disable-usage-stats", f"--object-store-memory={10**8}"),
)
# Once its input is closed, also by the death of the tests' process, it ends all that have the token.
CLEANER = """cat
while them=$(grep -lsz "^RAY_AUTH_TOKEN=$1" /proc/[0-9]*/environ | cut -d/ -f3); [ "$them" ]; do
  kill -9 $them; sleep 0.1
done
rm -rf "$2"
"""


class Cluster:
    """Two nodes: a node is what has the variable NODE, the folder of its files, whose name is its address."""

    def __init__(self, folder):
        self.head, self.other = folder / "127.0.0.2", folder / "127.0.0.3"  # Ray takes no 127.0.0.1
        with socket.create_server((self.head.name, 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"{self.head.name}:{self.port}"

    def start(self):
        head = ("--head", f"--port={self.port}", "--include-dashboard=false")
        for node, options in ((self.head, head), (self.other, (f"--address={self.address}",))):
            command = (*START, *options, f"--node-ip-address={node.name}", f"--temp-dir={node}")
            log = node.with_suffix(".log")
            with log.open("w") as file:  # not a pipe, which the daemons would keep open
                started = subprocess.run(
                    command, stdout=file, stderr=file, timeout=SECONDS, env={**os.environ, "NODE": str(node)}
                )
            assert started.returncode == 0, log.read_text()


def processes(node, name=""):
    """Those of a node, whose program's name ends so."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended
            if process.environ().get("NODE") == str(node) and "".join(process.cmdline()[:1]).endswith(name):
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
def cluster(monkeypatch):
    token, folder = secrets.token_hex(32), tempfile.mkdtemp()  # a short path, for sockets
    cleaner = ("bash", "-c", CLEANER, "cleaner", token, folder)
    with subprocess.Popen(cleaner, stdin=subprocess.PIPE, start_new_session=True):
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
        monkeypatch.setenv("RAY_worker_niceness", "0")  # not 15: workers would starve where others train, too
        monkeypatch.setenv(
            "RAY_gcs_rpc_server_reconnect_timeout_s", "10"
        )  # not a minute after the head's end
        cluster = Cluster(Path(folder))
        cluster.start()
        yield cluster


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    settings = sweep_settings(tmp_path_factory.mktemp("here"), **TASKS)
    train_all(settings)
    return results(settings)


def test_a_killed_raylet_and_a_killed_worker_lose_nothing(tmp_path, cluster, here):
    settings = sweep_settings(tmp_path, **TASKS, ray_address=cluster.address)
    driver = start_driver(settings)
    until(lambda: workers(cluster.other), "training on the second node")
    kill(processes(cluster.other, "/raylet"))
    seen = checkpoints(settings)
    kill(until(lambda: workers(cluster.head, seen), "training on the first node"))
    assert driver.wait(SECONDS) == 0, front_log(settings)
    assert ": failed: " not in front_log(settings)
    assert sum(len(cell.run.content["resumed"]) for cell in make_plan(settings)) == 2
    assert results(settings) == here


def test_after_the_heads_death_the_same_command_goes_on_in_a_new_cluster(tmp_path, cluster, here):
    settings = sweep_settings(tmp_path, **TASKS, ray_address=cluster.address)
    driver = start_driver(settings)
    until(lambda: workers(cluster.head), "training on the first node")
    kill(processes(cluster.head))
    assert driver.wait(SECONDS) != 0
    until(lambda: not processes(cluster.other, "/raylet"), "end of the second node")
    cluster.start()
    assert start_driver(settings).wait(SECONDS) == 0, front_log(settings)
    assert any(cell.run.content["resumed"] for cell in make_plan(settings))
    assert results(settings) == here
