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

pytest.importorskip("ray", reason="needs ray: `pip install 'xql_jax[sweep]'`")

from test_executors import ROOT, SECONDS, checkpoints, start_driver, until
from test_real_slurm import front_log, results
from tiny_sweeps import sweep_settings, train_all

from xql_jax.sweeps.plan import make_plan

pytestmark = pytest.mark.slow
HEAD, OTHER = "127.0.0.2", "127.0.0.3"  # Ray replaces 127.0.0.1 by the machine's address
METHODS = ("bc:hidden_dims=8:batch_size=32", "bc:hidden_dims=16:batch_size=32")
TASKS = {"methods": METHODS, "max_steps": 40_000, "eval_interval": 10_000, "checkpoint_interval": 500}
ONE_CORE = ("--num-cpus=1", "--num-gpus=0", "--disable-usage-stats", f"--object-store-memory={10**8}")


def start_cluster(folder, address):
    head = ("--head", f"--port={address.partition(':')[2]}", "--include-dashboard=false")
    for ip, options in ((HEAD, head), (OTHER, (f"--address={address}",))):
        log, places = folder / f"{ip}.log", (f"--node-ip-address={ip}", f"--temp-dir={folder / ip}")
        with log.open("w") as file:  # not a pipe, which the daemons would keep open
            command = (sys.executable, "-m", "ray.scripts.scripts", "start", *ONE_CORE, *options, *places)
            code = subprocess.run(command, stdout=file, stderr=file, timeout=SECONDS).returncode
        assert code == 0, log.read_text()


def processes(program="", *words):
    """Those with this test's token, of this program, in whose command these words are."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it has ended
            is_ours = process.environ().get("RAY_AUTH_TOKEN") == os.environ["RAY_AUTH_TOKEN"]
            command = process.cmdline() if is_ours and process.pid != os.getpid() else []
            if command and command[0].endswith(program) and {*words} <= {*command}:
                found.append(process)
    return found


def worker(node, seen=()):
    """The node's, once its run has a checkpoint that was not seen."""
    for process in processes("ray::work"):
        with contextlib.suppress(psutil.Error):
            files = [Path(file.path) for file in process.open_files() if process.ppid() == node.pid]
            runs = [file.parent for file in files if file.name == ".lock"]
            if any({*run.glob("checkpoints/[1-9]*[0-9]")} - {*seen} for run in runs):
                return process
    return None


def killed(them):
    for process in them:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return them


@pytest.fixture
def cluster(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "10")  # not a minute, once the head is dead
    with socket.create_server((HEAD, 0)) as free:
        address = f"{HEAD}:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:  # a short path, for sockets
        try:
            start_cluster(Path(folder), address)
            yield Path(folder), address
        finally:
            until(lambda: not killed(processes()), "end of what was started")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    settings = sweep_settings(tmp_path_factory.mktemp("here"), **TASKS)
    train_all(settings)
    return results(settings)


def test_a_killed_raylet_and_a_killed_worker_lose_nothing(tmp_path, cluster, here):
    settings = sweep_settings(tmp_path, **TASKS, ray_address=cluster[1])
    [head], [other] = (processes("/raylet", f"--node_ip_address={ip}") for ip in (HEAD, OTHER))
    driver = start_driver(settings)
    until(lambda: worker(other), "training on the second node")
    other.kill()
    seen = checkpoints(settings)
    until(lambda: worker(head, seen), "training on the first node").kill()
    assert driver.wait(SECONDS) == 0, front_log(settings)
    assert ": failed: " not in front_log(settings)
    assert sum(len(cell.run.content["resumed"]) for cell in make_plan(settings)) == 2
    assert results(settings) == here


def test_after_the_heads_death_the_same_command_goes_on_in_a_new_cluster(tmp_path, cluster, here):
    settings = sweep_settings(tmp_path, **TASKS, ray_address=cluster[1])
    [head] = processes("/raylet", f"--node_ip_address={HEAD}")
    driver = start_driver(settings)
    until(lambda: worker(head), "training on the first node")
    killed([*processes("/gcs_server"), head, *head.children(recursive=True)])
    assert driver.wait(SECONDS) != 0
    until(lambda: not killed(processes()), "end of the other node")
    start_cluster(*cluster)
    assert start_driver(settings).wait(SECONDS) == 0, front_log(settings)
    assert any(cell.run.content["resumed"] for cell in make_plan(settings))
    assert results(settings) == here
