"""What SLURM is asked for, and which jobs are followed. test_real_ray.py and test_real_slurm.py train."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from guides import blocks
from tiny_sweeps import TINY, sweep_settings, train_all

from xql_jax.errors import UserError
from xql_jax.settings import settings_of
from xql_jax.training.signals import StopSignals
from xql_jax.workshop.sweeps import executors
from xql_jax.workshop.sweeps.plan import make_plan
from xql_jax.workshop.sweeps.slurm import Slurm
from xql_jax.workshop.sweeps.sweep_settings import Sweep

ROOT = Path(__file__).resolve().parents[2]
CLONING = (f"bc{TINY}",)
SECONDS = 600  # for what is waited for


def until(happens, what):
    """Waits until it does; returns what it is."""
    deadline = time.monotonic() + SECONDS
    while not (found := happens()):
        assert time.monotonic() < deadline, f"no {what} in {SECONDS} s"
        time.sleep(0.02)
    return found


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


def checkpoints(settings):
    """The checkpoints of runs that have not finished."""
    there = Path(settings.save_dir).glob("*/*/*/checkpoints/[1-9]*[0-9]")
    ended = {file.parent for file in Path(settings.save_dir).glob("*/*/*/summary.json")
             if json.loads(file.read_text())["status"] == "finished"}  # fmt: skip
    return {path for path in there if path.parents[1] not in ended}


def test_a_stop_of_a_run_that_fails_meanwhile_ends_the_sweep(tmp_path, monkeypatch):
    """The disk is full when the run is to be saved; the next run does not begin."""

    def failing(settings, stop):
        with stop:
            os.kill(os.getpid(), signal.SIGINT)
            raise UserError("no space left")

    monkeypatch.setattr(executors, "train_run", failing)
    with StopSignals() as stop:
        [(_, outcome)] = train_all(sweep_settings(tmp_path), stop=stop)
    assert (outcome, stop.received) == ("no space left", signal.SIGINT)


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
    with pytest.raises(UserError, match=r"--save_dir=.*/10%: SLURM replaces %"):
        Slurm(sweep_settings(tmp_path, save_dir=str(tmp_path / "10%")))


@pytest.mark.parametrize(("code", "is_queued_again"), [(0, False), (2, False), (140, True)])
def test_the_documented_script_ends_as_its_run(tmp_path, code, is_queued_again):
    [script] = [block.code for block in blocks("docs/sweeps.md", "sh") if "#SBATCH" in block.code]
    does = f"srun() {{ return {code}; }}; scontrol() {{ touch {tmp_path}/again; }}\n"
    assert subprocess.run(["bash", "-c", does + script]).returncode == code  # a code of 0 is COMPLETED
    assert (tmp_path / "again").exists() is is_queued_again


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Makes a SLURM whose sbatch does this, and which forgets its jobs at once."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(script):
        for name, text in {"sbatch": script, "srun": "", "squeue": ""}.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
            (tmp_path / name).chmod(0o755)

    return make


def test_jobs_of_a_sweep_that_is_in_a_job_inherit_nothing_of_it(tmp_path, monkeypatch, sbatch):
    sbatch(f"env | grep ^SLURM > {tmp_path}/env; echo Submitted batch job 7")
    of_cluster = {"SLURM_CONF": "there", "SLURM_JWT": "secret"}
    of_job = {"SLURM_JOB_ID": "3", "SLURM_ARRAY_TASK_ID": "1", "SLURM_RESTART_COUNT": "9"}
    for name, value in (of_cluster | of_job).items():
        monkeypatch.setenv(name, value)
    settings = sweep_settings(tmp_path, methods=CLONING)
    [(_, outcome)] = Slurm(settings)(make_plan(settings), StopSignals())
    assert outcome is None  # no job 7
    assert {*(tmp_path / "env").read_text().split()} == {f"{one}={of}" for one, of in of_cluster.items()}
    assert of_job.items() <= os.environ.items()


def test_an_sbatch_that_dies_is_told_unless_the_sweep_was_stopped(tmp_path, sbatch):
    settings = sweep_settings(tmp_path)
    sbatch("kill -9 $$")
    told = [outcome for _, outcome in Slurm(settings)(make_plan(settings), StopSignals())]
    assert [one.partition(".sh")[2] for one in told] == ["']' died with <Signals.SIGKILL: 9>."] * 2
    sbatch("kill -INT $PPID; kill -9 $$")  # as Ctrl-C does
    with StopSignals() as stop:
        assert list(Slurm(settings)(make_plan(settings), stop)) == []
