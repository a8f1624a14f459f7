"""A sweep gets to its end here, on Ray and on SLURM: the same rows, whoever is killed meanwhile."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fake_slurm import FakeSlurm
from tiny_sweeps import TINY, rows, states, sweep_settings, train_all

from xql_jax.errors import UserError
from xql_jax.runs import offline
from xql_jax.sweeps.plan import make_plan
from xql_jax.sweeps.slurm import Slurm
from xql_jax.sweeps.sweep_settings import SweepSettings
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.signals import StopSignals

ROOT = Path(__file__).resolve().parents[2]
slow = pytest.mark.slow
CLONING = (f"bc{TINY}",)
TASKS = {
    "methods": CLONING, "num_seeds": 6, "seeds_per_run": 1, "max_steps": 8_000, "eval_interval": 2_000,
    "checkpoint_interval": 200,
}  # fmt: skip
SECONDS = 600  # for what is waited for


def test_a_signal_at_a_runs_very_end_still_stops_the_sweep(tmp_path, monkeypatch):
    train = offline.train_and_summarize

    def train_and_stop(*arguments):
        summary = train(*arguments)
        next(one for one in arguments if isinstance(one, StopSignals)).request()
        return summary

    monkeypatch.setattr(offline, "train_and_summarize", train_and_stop)
    settings = sweep_settings(tmp_path)
    [(_, outcome)] = train_all(settings)
    assert (outcome.summary["status"], outcome.stopped) == ("finished", signal.SIGINT)
    assert states(settings) == ["finished", "to do"]


def test_a_cell_whose_worker_is_stopped_goes_on_as_long_as_it_gets_further(tmp_path, monkeypatch):
    """Stopped after each two updates, it is trained four times; stopped at once, it is given up."""
    train = TrainingLoop.run
    settings = sweep_settings(tmp_path, methods=CLONING, max_steps=8, eval_interval=8)

    def stopped_after(steps):
        def run(loop, stop, **options):
            last, report = loop.progress.step + steps, loop._report_divergences

            def report_and_stop():
                report()
                if last <= loop.progress.step < 8:
                    stop.request()

            if steps == 0:
                stop.request()
            loop._report_divergences = report_and_stop
            train(loop, stop, **options, steps_per_call=1)
            stop.received = None  # only this worker was stopped, not the sweep

        monkeypatch.setattr(TrainingLoop, "run", run)
        return [outcome.summary["status"] for _, outcome in train_all(settings)]

    assert stopped_after(0) == ["interrupted"]
    assert stopped_after(2) == ["interrupted"] * 3 + ["finished"]


def until(happens, what):
    """Waits until it does; returns what it is."""
    deadline = time.monotonic() + SECONDS
    while not (found := happens()):
        assert time.monotonic() < deadline, f"no {what} in {SECONDS} s"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The rows of the six seeds, trained here."""
    settings = sweep_settings(tmp_path_factory.mktemp("expected"), **TASKS)
    train_all(settings)
    return rows(settings)


def start_driver(settings, *flags):
    """The sweep as a user types it."""
    arguments = [
        f"--{name}={','.join(value) if isinstance(value, tuple) else value}"
        for name, value in vars(settings).items()
        if value != SweepSettings.__dataclass_fields__[name].default and name != "given"
    ]
    command = [sys.executable, str(ROOT / "experiments" / "sweep.py"), *arguments, *flags, "--executor=ray"]
    log = Path(settings.save_dir).parent / "driver.log"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("a") as file:
        return subprocess.Popen(command, cwd=log.parent, stdout=file, stderr=file, env=environment)


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
    """The checkpoints of runs that have not finished."""
    unfinished = {folder for folder in Path(settings.save_dir).glob("*/*/*") if folder.is_dir()} - {
        path.parent for path in finished(settings)
    }
    return {path for folder in unfinished for path in folder.glob("checkpoints/[1-9]*[0-9]")}


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
        until(lambda seen=before: checkpoints(settings) - seen, "training after a worker was killed")
    until(lambda: len(finished(settings)) >= 2, "run that finished")
    driver.kill()
    driver.wait()
    until(lambda: not workers(), "end of the workers, whose driver is gone")
    there = {path: path.read_bytes() for path in finished(settings)}
    assert len(there) < 6
    assert start_driver(settings).wait(SECONDS) == 0, (tmp_path / "driver.log").read_text()
    assert {path: path.read_bytes() for path in there} == there  # the rest only
    assert rows(settings) == expected
    configs = [json.loads((path.parent / "config.json").read_text()) for path in finished(settings)]
    assert sum(bool(config["resumed"]) for config in configs) >= 2


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm commands")
    monkeypatch.setenv("PATH", f"{fake.commands}{os.pathsep}{os.environ['PATH']}")
    return fake


class StopsOnceBegun(StopSignals):
    """A stop that comes when two runs have checkpoints."""

    def __init__(self, settings):
        self._settings, self._asked = settings, None

    @property
    def received(self):
        if len({path.parents[1] for path in checkpoints(self._settings)}) >= 2:
            self._asked = signal.SIGINT
        return self._asked

    @received.setter
    def received(self, value):
        self._asked = value


@slow
@pytest.mark.parametrize("cluster", ["slurm", "local"])
def test_jobs_that_were_left_are_followed_and_not_submitted_again(tmp_path, slurm, expected, cluster):
    settings = sweep_settings(tmp_path, **{**TASKS, "num_seeds": 3}, slurm_cluster=cluster)
    outcomes = train_all(settings, Slurm(settings), StopsOnceBegun(settings))
    if cluster == "slurm":
        assert outcomes == []  # nobody has waited for them
        assert slurm.submitted == 3
    else:
        # The stop comes before the third job, or ends it; the first two may have ended by then.
        assert len(outcomes) < 3 or signal.SIGTERM in {outcome.stopped for _, outcome in outcomes}
    # One that had finished before it was stopped is not trained again.
    left = 3 - sum(outcome.summary.get("status") == "finished" for _, outcome in outcomes)
    outcomes = train_all(settings, Slurm(settings))
    assert [outcome.summary["status"] for _, outcome in outcomes] == ["finished"] * left
    assert rows(settings) == {seed: expected[seed] for seed in (0, 1, 2)}
    assert slurm.submitted == (3 if cluster == "slurm" else 0)


FOLLOWED = [("UNKNOWN", (True, False)), ("PREEMPTED", (False, False)), ("RUNNING", (True, True))]


@pytest.mark.parametrize(("state", "follows"), FOLLOWED)
def test_a_job_that_never_ends_is_not_waited_for(tmp_path, slurm, monkeypatch, state, follows):
    """A new job is followed unless it was preempted; an old one only if SLURM knows it."""
    settings = sweep_settings(tmp_path, methods=CLONING)
    [cell] = make_plan(settings)
    executor = Slurm(settings)
    monkeypatch.setattr("submitit.SlurmJob.state", state)
    file = executor.job_file(cell)
    file.parent.mkdir(parents=True)
    file.write_text("7")
    found = [executor.followed(cell)]
    os.utime(file, (0, 0))
    found.append(executor.followed(cell))
    assert [job is not None and job.job_id == "7" for job in found] == list(follows)


def test_the_script_that_slurm_would_be_given(tmp_path):
    options = ("mem=16GB", "exclusive=true", "setup=module load cuda", "srun_args=--mpi=none --quiet")
    resources = {"task_cpus": 4, "task_gpus": 1, "slurm_options": options}
    lines = Slurm(sweep_settings(tmp_path, **resources)).script().splitlines()
    asked = ("cpus-per-task=4", "gpus-per-node=1", "mem=16GB", "exclusive")
    assert {f"#SBATCH --{one}" for one in asked} | {"module load cuda"} <= {*lines}
    assert any(line.startswith("#SBATCH --signal=USR2@") for line in lines)  # before the hours are over
    assert any(" --mpi=none --quiet python " in line and "submitit.core._submit" in line for line in lines)
    with pytest.raises(UserError, match=r"^--slurm_options: unknown option 'partion'; nearest: partition"):
        Slurm(sweep_settings(tmp_path, slurm_options=("partion=gpu",)))
