"""By Ray's workers or SLURM's jobs: the same rows as here, whoever is killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import psutil
import pytest
import ray
from fake_slurm import FakeSlurm
from tiny_sweeps import TINY, rows, sweep_settings, train_all

from xql_jax.errors import UserError
from xql_jax.sweeps import slurm as slurm_executor
from xql_jax.sweeps.plan import make_plan
from xql_jax.sweeps.ray_cluster import RayCluster
from xql_jax.sweeps.settings import ExecutorSettings, SweepSettings
from xql_jax.sweeps.slurm import Slurm
from xql_jax.training.signals import StopSignals

ROOT = Path(__file__).resolve().parents[2]
slow = pytest.mark.slow
TASKS = {
    "methods": (f"bc{TINY}",),
    "num_seeds": 12,
    "seeds_per_run": 1,
    "max_steps": 20_000,
    "eval_interval": 5_000,
    "checkpoint_interval": 500,
}
SECONDS = 600  # for what is waited for


def until(happens, what):
    """Waits until it does; returns what it is."""
    deadline = time.monotonic() + SECONDS
    while not (found := happens()):
        assert time.monotonic() < deadline, f"no {what} in {SECONDS} s"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The rows of the twelve, trained here."""
    settings = sweep_settings(tmp_path_factory.mktemp("expected"), **TASKS)
    train_all(settings)
    return by_seed(settings)


def by_seed(settings):
    return {name.rsplit(" seed ")[1]: found for name, found in rows(settings).items()}


def start_driver(settings, *flags):
    """The sweep as a user types it."""
    arguments = [
        f"--{name}={','.join(value) if isinstance(value, tuple) else value}"
        for name, value in vars(settings).items()
        if value != SweepSettings.__dataclass_fields__[name].default and name != "given"
    ]
    command = [sys.executable, str(ROOT / "experiments" / "sweep.py"), *arguments, *flags, "--executor=ray"]
    log = Path(settings.save_dir).parent / "driver.log"
    with log.open("a") as file:
        return subprocess.Popen(command, cwd=log.parent, stdout=file, stderr=file, env=environment())


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def workers(of=None):
    """The processes that train now, of a process if one is given."""
    found = psutil.Process(of.pid).children(recursive=True) if of else psutil.process_iter()
    alive = []
    for process in found:
        try:
            if process.cmdline()[:1] == ["ray::work"]:
                alive.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return alive


def checkpoints(settings):
    """By run that has not finished: its last checkpoint."""
    folders = Path(settings.save_dir).glob("*/*/*")
    return {
        folder: max(steps)
        for folder in folders
        if not (folder / "summary.json").exists()
        and (
            steps := [
                int(path.name) for path in (folder / "checkpoints").glob("[1-9]*[0-9]") if path.is_dir()
            ]
        )
    }


def finished(settings):
    summaries = sorted(Path(settings.save_dir).glob("*/*/*/summary.json"))
    return [file for file in summaries if json.loads(file.read_text())["status"] == "finished"]


@slow
def test_ray_loses_nothing_when_workers_and_the_driver_are_killed(tmp_path, expected):
    settings = sweep_settings(tmp_path, **TASKS)
    driver = start_driver(settings)
    for _ in range(2):
        before = until(lambda: checkpoints(settings), "checkpoint")
        until(lambda: workers(driver), "worker")[0].kill()
        until(lambda seen=before: checkpoints(settings) != seen, "training after a worker was killed")
    until(lambda: len(finished(settings)) >= 4, "run that finished")
    driver.kill()
    driver.wait()
    until(lambda: not workers(), "end of the workers, whose driver is gone")
    there = {path: path.read_bytes() for path in finished(settings)}
    assert len(there) < 12
    assert start_driver(settings).wait(SECONDS) == 0, (tmp_path / "driver.log").read_text()
    assert {path: path.read_bytes() for path in there} == there  # the rest only
    assert by_seed(settings) == expected
    configs = [json.loads((path.parent / "config.json").read_text()) for path in finished(settings)]
    assert sum(bool(config["resumed"]) for config in configs) >= 2


@slow
def test_ray_stops_and_goes_on(tmp_path, expected):
    """Told to stop, what is under way is saved; with the program's own failure only that task fails."""
    settings = sweep_settings(tmp_path, **{**TASKS, "num_seeds": 2})
    driver = start_driver(settings, f"--task_cpus={os.cpu_count()}")  # one waits for the other
    until(lambda: checkpoints(settings), "checkpoint")
    driver.send_signal(signal.SIGINT)
    assert driver.wait(SECONDS) == 128 + signal.SIGINT
    text = (tmp_path / "driver.log").read_text()
    assert text.count("stopped by SIGINT; the same command goes on") == 2
    assert "failed" not in text
    assert start_driver(settings).wait(SECONDS) == 0
    assert by_seed(settings) == {seed: expected[seed] for seed in ("0", "1")}


def test_ray_says_what_it_cannot_do(tmp_path):
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",))
    with pytest.raises(UserError, match=r"^--ray_address=127\.0\.0\.1:9: no cluster there"):
        train_all(settings, RayCluster(ExecutorSettings(ray_address="127.0.0.1:9")))
    with pytest.raises(UserError, match=r"^--ray_address=here: no cluster there"):
        train_all(settings, RayCluster(ExecutorSettings(ray_address="here")))


@slow
def test_a_task_that_no_node_has_room_for_is_refused(tmp_path):
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",))
    with pytest.raises(
        UserError,
        match=r"^--task_cpus, --task_gpus, --task_memory_gb: no node of the cluster has so much",
    ):
        train_all(settings, RayCluster(ExecutorSettings(task_gpus=100.0, ray_address="local")))
    assert not ray.is_initialized()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm commands")
    monkeypatch.setenv("PATH", f"{fake.commands}{os.pathsep}{os.environ['PATH']}")
    return fake


def jobs_of(settings, cluster, **resources):
    folder = Path(settings.save_dir) / "slurm"
    return Slurm(ExecutorSettings(slurm_cluster=cluster, **resources), folder)


@pytest.fixture
def jobs_tell_their_gpus(monkeypatch):
    class Job:  # local, so that it is pickled whole: a process that imports JAX takes seconds
        def __init__(self, settings):
            pass

        def __call__(self):
            return os.environ["CUDA_VISIBLE_DEVICES"]

    monkeypatch.setattr(slurm_executor, "Job", Job)


@pytest.mark.parametrize(("parallel", "gpus"), [(None, ["0,1", "0,1"]), (2, ["0,1", "2,3"])])
@pytest.mark.usefixtures("jobs_tell_their_gpus")
def test_jobs_on_this_machine_have_gpus_of_their_own(tmp_path, parallel, gpus):
    executor = Slurm(
        ExecutorSettings(task_gpus=2, slurm_cluster="local", parallel=parallel), tmp_path / "slurm"
    )
    ended = executor.run(make_plan(sweep_settings(tmp_path)).cells, StopSignals())
    assert sorted(told for _, told in ended) == gpus


class StopsOnceBegun(StopSignals):
    """A stop that comes when runs have checkpoints."""

    def __init__(self, settings):
        self._settings, self._asked = settings, None

    @property
    def received(self):
        if self._asked is None and len(checkpoints(self._settings)) >= 2:
            self._asked = signal.SIGINT
        return self._asked

    @received.setter
    def received(self, value):
        self._asked = value


@slow
@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_jobs_that_were_left_are_followed_and_not_submitted_again(tmp_path, slurm, expected, cluster):
    settings = sweep_settings(tmp_path, **{**TASKS, "num_seeds": 3})
    outcomes = train_all(settings, jobs_of(settings, cluster), StopsOnceBegun(settings))
    if cluster == "slurm":
        assert outcomes == []  # nobody has waited for them
        assert slurm.submitted == 3
    else:
        assert {outcome.stopped for _, outcome in outcomes} == {signal.SIGTERM}
        assert not finished(settings)
    outcomes = train_all(settings, jobs_of(settings, cluster))
    assert [outcome.summary["status"] for _, outcome in outcomes] == ["finished"] * 3
    assert by_seed(settings) == {seed: expected[seed] for seed in ("0", "1", "2")}
    assert slurm.submitted == (3 if cluster == "slurm" else 0)


@pytest.mark.parametrize("state", ["UNKNOWN", "PREEMPTED", "RUNNING"])
def test_a_job_that_never_ends_is_not_waited_for(tmp_path, slurm, monkeypatch, state):
    settings = sweep_settings(tmp_path, methods=(f"bc{TINY}",))
    [cell] = make_plan(settings).cells
    executor = jobs_of(settings, "slurm")
    monkeypatch.setattr("submitit.SlurmJob.state", state)
    pickle = tmp_path / "runs" / "slurm" / "7_submitted.pkl"
    pickle.parent.mkdir(parents=True)
    pickle.touch()
    executor._note(cell, types.SimpleNamespace(job_id="7"))
    assert (
        executor._followed(cell) is None if state == "PREEMPTED" else executor._followed(cell).job_id == "7"
    )
    os.utime(pickle, (0, 0))
    followed = executor._followed(cell)
    assert followed.job_id == "7" if state == "RUNNING" else followed is None


def test_sweeps_do_not_forget_each_others_jobs(tmp_path, slurm):
    one, two = (sweep_settings(tmp_path, methods=(f"{name}{TINY}",)) for name in ("bc", "iql"))
    executors = jobs_of(one, "slurm"), jobs_of(two, "slurm")
    for settings, executor, number in zip((one, two), executors, ("101", "102"), strict=True):
        executor._folder.mkdir(parents=True, exist_ok=True)
        [cell] = make_plan(settings).cells
        executor._note(cell, types.SimpleNamespace(job_id=number))
    assert sorted(json.loads((tmp_path / "runs/slurm/jobs.json").read_text()).values()) == ["101", "102"]


def test_the_script_that_slurm_would_be_given(tmp_path):
    resources = {"task_cpus": 4, "task_gpus": 1, "task_memory_gb": 16, "task_hours": 2.5, "retries": 5}
    options = ("partition=gpu", "account=mine")
    settings = ExecutorSettings(slurm_options=options, parallel=7, **resources)
    lines = Slurm(settings, tmp_path / "jobs").script().splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in (
        "partition=gpu",
        "account=mine",
        "cpus-per-task=4",
        "gpus-per-node=1",
        "mem=16GB",
        "time=150",
    ):
        assert f"#SBATCH --{line}" in lines
    assert any(line.startswith("#SBATCH --signal=USR2@") for line in lines)  # before the hours are over
    assert any("submitit.core._submit" in line for line in lines)
    assert not (tmp_path / "jobs").exists()


def test_slurm_says_what_it_lacks(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"^--slurm_options: unknown option 'partion'; nearest: partition"):
        Slurm(ExecutorSettings(slurm_options=("partion=gpu",)), tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"^--executor=slurm: no sbatch here"):
        train_all(sweep_settings(tmp_path), Slurm(ExecutorSettings(), tmp_path / "jobs"))
