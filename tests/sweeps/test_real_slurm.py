"""Sweeps on a real SLURM of this machine alone: nothing is lost, doubled or trained in vain."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from driver import write_dataset
from test_executors import ROOT, SECONDS, start_driver
from tiny_sweeps import sweep_settings, train_all

from xql_jax.workshop.sweeps.plan import make_plan

IS_HERE = shutil.which("slurmctld") and os.geteuid() == 0
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IS_HERE, reason="needs slurmctld, and root: `make test-cluster` installs it"),
]
SMALL = ":hidden_dims=32:batch_size=32"  # some 10,000 updates a second
# Nothing is saved but at a run's stop and at its end.
TASKS = {
    "methods": (f"bc{SMALL}", f"iql{SMALL}"), "max_steps": 100_000, "eval_interval": 2_000,
    "checkpoint_interval": 10**8,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """SLURM runs, and the commands find it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    script = Path(__file__).parent / "one_node_slurm.sh"
    subprocess.run([script, "start", folder], check=True)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    asked("scancel", f"--user={os.getuid()}")
    subprocess.run([script, "stop", folder], check=True)
    del os.environ["SLURM_CONF"]
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The same sweep, trained here."""
    settings = sweep_settings(tmp_path_factory.mktemp("here"), **TASKS)
    train_all(settings)
    return settings


def asked(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def state(job):
    return asked("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").strip()


def jobs(settings):
    """The numbers of all that were submitted."""
    return sorted(file.name.split("_")[0] for file in Path(settings.save_dir).glob("slurm/*_submitted.pkl"))


def log(settings, job):
    file = Path(settings.save_dir) / "slurm" / f"{job}_0_log.out"
    return file.read_text() if file.exists() else ""


def until(happens, what):
    """Waits until it does; returns what it is."""
    deadline = time.monotonic() + SECONDS
    while not (found := happens()):
        assert time.monotonic() < deadline, f"no {what} in {SECONDS} s"
        time.sleep(0.25)
    return found


def stopped_once_they_learn(settings, jobs, command, begun=0):
    """Stops each of the jobs by the command, in the midst of training, which it has begun so often before."""
    left = set(jobs)

    def all_are():
        for job in sorted(left):
            if re.search(r"update [\d,]+: ", "".join(log(settings, job).split("compiled in")[begun + 1 :])):
                asked(*command, job)
                left.remove(job)
        return not left

    until(all_are, f"scores of jobs {left}")


def until_submitted(settings, number):
    return until(lambda: len(jobs(settings)) == number and jobs(settings), f"{number} jobs")


def let_it_begin_again(job):
    """Without the two minutes that SLURM waits after a requeue; within a second it would fail."""
    until(lambda: state(job) == "PENDING", f"job {job} in the queue")
    asked("scontrol", "update", f"jobid={job}", "StartTime=now+2")


def results(settings):
    """By method: the evaluations, without seconds, and all arrays of the last checkpoint."""
    found = {}
    for cell in make_plan(settings):
        scores = [
            (row.step, row.seed, row.results["score"]) for row in cell.run.rows(cell.run.files.evaluations)
        ]
        with np.load(cell.run.path / "checkpoints" / str(cell.step) / "states.npz") as file:
            found[cell.method] = scores, {name: file[name].tobytes() for name in file}
    return found


def front_log(settings):
    return (Path(settings.save_dir).parent / "driver.log").read_text()


def test_warnings_and_a_requeue_lose_nothing_and_double_nothing(tmp_path, here):
    settings = sweep_settings(tmp_path, **TASKS)
    front = start_driver(settings, "slurm")
    both = until_submitted(settings, 2)
    warn, requeue = ("scancel", "--signal=USR2"), ("scontrol", "requeue")
    for begun, command in enumerate((warn, requeue, warn)):
        stopped_once_they_learn(settings, both, command, begun)
        for job in both:
            let_it_begin_again(job)
    assert front.wait(SECONDS) == 0, front_log(settings)
    assert jobs(settings) == both
    for job, cell in zip(both, make_plan(settings), strict=True):
        said = re.findall(r"stopped by (\w+) after step ([\d,]+)", log(settings, job))
        assert [name for name, _ in said] == ["SIGUSR2", "SIGTERM", "SIGUSR2"]
        resumed = [one["after_step"] for one in cell.run.record["resumed"]]
        assert [int(step.replace(",", "")) for _, step in said] == resumed  # nothing is trained twice
        assert 0 < resumed[0] < resumed[1] < resumed[2] < TASKS["max_steps"]
        assert log(settings, job).count("resuming after") == 3
    assert results(settings) == results(here)


def test_a_cancelled_job_ends_its_cell_and_the_same_command_goes_on(tmp_path, here):
    one = {**TASKS, "methods": TASKS["methods"][:1]}
    settings = sweep_settings(tmp_path, **one)
    front = start_driver(settings, "slurm")
    [job] = until_submitted(settings, 1)
    stopped_once_they_learn(settings, [job], ["scancel"])
    assert front.wait(SECONDS) == 2
    assert f"failed: job {job} was cancelled; the same command goes on\n" in front_log(settings)
    assert jobs(settings) == [job]
    front = start_driver(settings, "slurm")
    _, second = until_submitted(settings, 2)
    until(lambda: "update" in log(settings, second), "second time")
    front.send_signal(signal.SIGINT)
    assert front.wait(SECONDS) == 128 + signal.SIGINT
    asked("scontrol", "requeue", second)  # while nobody looks
    front = start_driver(settings, "slurm")
    let_it_begin_again(second)
    assert front.wait(SECONDS) == 0, front_log(settings)
    assert jobs(settings) == [job, second]
    assert results(settings) == {one["methods"][0]: results(here)[one["methods"][0]]}


def test_a_cell_that_fails_does_not_end_the_others(tmp_path):
    bad, broken = tmp_path / "bad.npz", {"methods": ("bc:hidden_dims=8",), "num_seeds": 1}
    settings = sweep_settings(tmp_path, **broken)
    write_dataset(bad)
    bad.write_bytes(bad.read_bytes()[:100])
    settings = sweep_settings(tmp_path, **broken, datasets=(*settings.datasets, f"pointmaze-medium-v0={bad}"))
    assert start_driver(settings, "slurm").wait(SECONDS) == 2
    assert f"{bad}" in re.search("failed: (.*)", front_log(settings))[1]
    assert [cell.state for cell in make_plan(settings)] == ["finished", "to do"]


def test_a_time_limit_shorter_than_the_interval_of_checkpoints(tmp_path):
    """Near it SLURM sends USR2, the run is saved, and its job is in the queue again."""
    limited = {"methods": ("bc:hidden_dims=8",), "max_steps": 10**8, "eval_interval": 10**5}
    settings = sweep_settings(tmp_path, **{**TASKS, **limited}, slurm_options=("time=2", "signal_delay_s=60"))
    front = start_driver(settings, "slurm")
    [job] = until_submitted(settings, 1)
    until(lambda: "stopped by SIGUSR2" in log(settings, job), "warning")
    let_it_begin_again(job)
    until(lambda: "resuming after" in log(settings, job), "second time")
    assert re.search(r"stopped by SIGUSR2 after step [1-9]", log(settings, job))
    front.kill()
    asked("scancel", job)


def test_a_warning_stops_and_saves_a_run_in_a_script_of_ones_own(tmp_path):
    settings = sweep_settings(tmp_path)
    _, _, data = settings.datasets[0].partition("=")
    script, output = tmp_path / "job.sh", tmp_path / "job.out"
    command = f"{sys.executable} {ROOT}/experiments/train_offline.py --dataset={data} --method=bc"
    script.write_text(f"""#!/bin/bash
#SBATCH --signal=USR2@60 --open-mode=append --output={output}
srun {command} --max_steps=100000000 --log_interval=10000 --hidden_dims=8 --save_dir={tmp_path}/runs --resume
[ $? = 140 ] && scontrol requeue $SLURM_JOB_ID
""")
    job = asked("sbatch", "--parsable", str(script)).strip()
    rows = "runs/*/*/*/metrics.csv"
    until(lambda: any(file.read_text().count("\n") > 1 for file in tmp_path.glob(rows)), "row of metrics")
    asked("scancel", "--signal=USR2", job)
    let_it_begin_again(job)
    until(lambda: "resuming after" in output.read_text(), "second time")
    assert "stopped by SIGUSR2; go on with --resume" in output.read_text()
    asked("scancel", job)
