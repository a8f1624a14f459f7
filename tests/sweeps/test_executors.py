"""A sweep gets to its end here, on Ray and on SLURM: the same rows, whoever is killed meanwhile."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import ray
from fake_slurm import FakeSlurm
from tiny_sweeps import TINY, rows, states, sweep_settings, train_all

from xql_jax.errors import UserError
from xql_jax.runs import train
from xql_jax.settings import settings_of
from xql_jax.training.loop import TrainingLoop
from xql_jax.training.signals import StopSignals
from xql_jax.workshop.sweeps.executors import in_process, ray_tasks, train_cells
from xql_jax.workshop.sweeps.plan import make_plan
from xql_jax.workshop.sweeps.slurm import Slurm
from xql_jax.workshop.sweeps.sweep_settings import Sweep

ROOT = Path(__file__).resolve().parents[2]
slow = pytest.mark.slow
CLONING = (f"bc{TINY}",)
TASKS = {
    "methods": CLONING, "num_seeds": 6, "seeds_per_run": 1, "max_steps": 8_000, "eval_interval": 2_000,
    "checkpoint_interval": 200,
}  # fmt: skip
SECONDS = 600  # for what is waited for


def test_a_signal_at_a_runs_very_end_still_stops_the_sweep(tmp_path, monkeypatch):
    summarized = train.train_and_summarize

    def train_and_stop(*arguments):
        summary = summarized(*arguments)
        next(one for one in arguments if isinstance(one, StopSignals)).request()
        return summary

    monkeypatch.setattr(train, "train_and_summarize", train_and_stop)
    settings = sweep_settings(tmp_path)
    [(_, outcome)] = train_all(settings)
    assert (outcome.status, outcome.stopped_by) == ("finished", signal.SIGINT)
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
        cells = train_cells(make_plan(settings), settings, in_process, StopSignals())
        return [run.status for _, run in cells]  # as it is when the cell ends

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


def start_driver(settings, executor="ray"):
    """The sweep as a user types it."""
    fields = settings_of(Sweep)
    asked = {
        name: getattr(settings, name) for name in fields if getattr(settings, name) != fields[name].default
    }
    log = Path(settings.save_dir).parent / "driver.log"
    log.with_name("sweep.yaml").write_text(json.dumps(asked))  # which is YAML, too
    main = ROOT / "experiments" / "sweep.py"
    command = [sys.executable, str(main), "sweep.yaml", f"--executor={executor}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("a") as file:
        return subprocess.Popen(command, cwd=log.parent, stdout=file, stderr=file, env=environment)


def workers(of=None):
    """The processes that train now, of a process if one is given."""
    found = psutil.Process(of.pid).children(recursive=True) if of else psutil.process_iter()
    alive = []
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if process.cmdline()[:1] == ["ray::work"]:
                alive.append(process)
    return alive


def checkpoints(settings):
    """The checkpoints of runs that have not finished."""
    there = Path(settings.save_dir).glob("*/*/*/checkpoints/[1-9]*[0-9]")
    whole = {file.parent for file in finished(settings)}
    return {path for path in there if path.parents[1] not in whole}


def finished(settings):
    summaries = sorted(Path(settings.save_dir).glob("*/*/*/summary.json"))
    return [file for file in summaries if json.loads(file.read_text())["status"] == "finished"]


@slow
def test_ray_loses_nothing_by_stops_and_kills(tmp_path, expected):
    settings = sweep_settings(tmp_path, **TASKS)
    driver = start_driver(settings)
    until(lambda: checkpoints(settings), "checkpoint")
    driver.send_signal(signal.SIGINT)
    assert driver.wait(SECONDS) == 128 + signal.SIGINT
    text = (tmp_path / "driver.log").read_text()
    assert text.count("stopped by SIGINT; the same command goes on") >= 2  # a run and the sweep
    assert "failed" not in text
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


@slow
def test_a_task_that_no_node_has_room_for_is_refused(tmp_path):
    settings = sweep_settings(tmp_path, methods=CLONING, task_gpus=100.0, ray_address="local")
    message = r"^--task_cpus, --task_gpus: no node of the cluster has so much"
    with pytest.raises(UserError, match=message):
        train_all(settings, ray_tasks(settings))
    assert not ray.is_initialized()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm commands")
    monkeypatch.setenv("PATH", f"{fake.commands}{os.pathsep}{os.environ['PATH']}")
    return fake


@slow
def test_jobs_that_were_left_are_followed_and_not_submitted_again(tmp_path, slurm, expected):
    settings = sweep_settings(tmp_path, **{**TASKS, "num_seeds": 3})
    stop = StopSignals()

    def stop_once_two_have_begun():
        until(lambda: len({path.parents[1] for path in checkpoints(settings)}) >= 2, "two runs")
        stop.request()

    threading.Thread(target=stop_once_two_have_begun, daemon=True).start()
    outcomes = train_all(settings, Slurm(settings), stop)
    assert outcomes == [], slurm.logs  # nobody has waited for them
    assert slurm.submitted == 3
    outcomes = train_all(settings, Slurm(settings))
    assert [outcome.status for _, outcome in outcomes] == ["finished"] * 3, slurm.logs
    assert rows(settings) == {seed: expected[seed] for seed in (0, 1, 2)}
    assert slurm.submitted == 3


@slow
def test_a_limit_of_jobs_makes_the_others_wait(tmp_path, slurm, monkeypatch):
    """All are trained, one after the other, and each is submitted once."""
    monkeypatch.setattr("xql_jax.workshop.sweeps.slurm.SECONDS_PER_QUESTION", 1.0)
    (slurm.folder / "most").write_text("1\n")
    settings = sweep_settings(tmp_path)
    assert [outcome.status for _, outcome in train_all(settings, Slurm(settings))] == ["finished"] * 2
    assert slurm.submitted == 2


@pytest.mark.parametrize(
    ("state", "is_followed"),
    [
        (None, False),  # SLURM knows it no longer
        ("RUNNING", True),
        ("PENDING", True),
        ("REQUEUED", True),
        ("COMPLETING", True),
        ("SPECIAL_EXIT", True),
        ("CANCELLED", False),
        ("NODE_FAIL", False),
        ("PREEMPTED", False),  # else it would be pending again
    ],
)
def test_a_job_that_runs_or_will_is_followed(tmp_path, state, is_followed):
    settings = sweep_settings(tmp_path, methods=CLONING)
    [cell] = make_plan(settings)
    executor = Slurm(settings)
    assert executor.followed(cell, {"7": "RUNNING"}) is None  # there is no job
    file = executor.job_file(cell)
    file.parent.mkdir(parents=True)
    file.write_text("7")
    job = executor.followed(cell, {"6": "RUNNING"} | ({"7": state} if state else {}))
    assert (job is not None and job.job_id == "7") is is_followed
    (file.parent / "7_0_result.pkl").touch()
    assert executor.followed(cell, {"7": "RUNNING"}) is None


def test_the_script_that_slurm_would_be_given(tmp_path):
    options = (
        "partition=gpu",
        "mem=16GB",
        "time=150",
        "account=007",
        "exclusive=true",
        "setup=module load cuda",
    )
    resources = {"task_cpus": 4, "task_gpus": 1, "slurm_options": (*options, "srun_args=--mpi=none --quiet")}
    lines = Slurm(sweep_settings(tmp_path, **resources)).script().splitlines()
    asked = (
        "partition=gpu",
        "cpus-per-task=4",
        "gpus-per-node=1",
        "mem=16GB",
        "time=150",
        "account=007",
        "exclusive",
    )
    assert {f"#SBATCH --{one}" for one in asked} | {"module load cuda"} <= {*lines}
    assert any(line.startswith("#SBATCH --signal=USR2@") for line in lines)  # before the hours are over
    assert any(" --mpi=none --quiet python " in line and "submitit.core._submit" in line for line in lines)
    assert not (tmp_path / "runs").exists()


def test_unknown_options_and_a_machine_without_slurm_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"^--slurm_options: unknown option 'partion'; nearest: partition"):
        Slurm(sweep_settings(tmp_path, slurm_options=("partion=gpu",)))
    monkeypatch.setenv("PATH", "")
    settings = sweep_settings(tmp_path)
    with pytest.raises(UserError, match=r"^--executor=slurm: no sbatch here"):
        train_all(settings, Slurm(settings))
