"""Trains the cells (runs) of a sweep as SLURM jobs, or as processes on this machine, through submitit."""

import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

import xql_jax
from xql_jax.errors import UserError, nearest
from xql_jax.files import as_json, digest, read_json, write_atomically
from xql_jax.runs.settings import RunSettings
from xql_jax.sweeps.plan import Cell
from xql_jax.sweeps.settings import ExecutorSettings
from xql_jax.sweeps.worker import Outcome, extra, work
from xql_jax.training.signals import StopSignals

SECONDS_PER_LOOK = 1.0
PATIENCE = 600.0  # seconds after its submission from which on a job that SLURM does not know is lost


class Job:
    """The function that a job runs.

    SLURM sends a signal before the job's time limit, and submitit queues the job again. The run then goes on
    from its last checkpoint.
    """

    def __init__(self, settings: RunSettings):
        self.settings, self.version, self.folder = settings, xql_jax.__version__, os.getcwd()

    def __call__(self) -> Outcome:
        return work(self.settings, self.version, self.folder)

    def checkpoint(self) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class Slurm:
    """The executor that submits one job per cell.

    Jobs do not depend on the process that submitted them. If the sweep is stopped or killed, they stay queued
    or running; the same command follows them instead of submitting them again.

    Args:
        folder: for scripts, logs and submitit's files; on shared disks.
    """

    def __init__(self, settings: ExecutorSettings, folder: Path):
        try:
            import submitit
            from submitit.slurm import slurm
        except ImportError as error:
            raise extra("slurm", error) from error
        self._submitit, self._slurm = submitit, slurm
        self._folder, self._cluster = folder.absolute(), settings.slurm_cluster
        gpus = settings.task_gpus
        self._parallel = settings.parallel or (math.inf if self._cluster == "slurm" else 1 if gpus else 2)
        if gpus != int(gpus):
            raise UserError(f"--task_gpus={gpus:g}: with SLURM it must be a whole number")
        self._jobs_file = self._folder / "jobs.json"
        self._settings = settings
        self._parameters = {
            "job_name": "xql_jax",
            "time": self._minutes,
            "cpus_per_task": settings.task_cpus,
            **({"gpus_per_node": int(gpus)} if gpus else {}),
            **({"mem": f"{settings.task_memory_gb:g}GB"} if settings.task_memory_gb else {}),
            **settings.options,
        }
        known = slurm._get_default_parameters()
        for name in self._parameters:
            if name not in known:
                raise UserError(f"--slurm_options: unknown option {name!r}; nearest: {nearest(name, known)}")

    @property
    def _minutes(self) -> int:
        return max(1, round(60 * self._settings.task_hours))

    def script(self) -> str:
        """Returns the script that sbatch would get for one cell."""
        command = f"python -u -m submitit.core._submit {self._folder}"
        return self._slurm._make_sbatch_string(command=command, folder=self._folder, **self._parameters)

    def run(self, cells: Sequence[Cell], stop: StopSignals) -> Iterator[tuple[Cell, Outcome]]:
        """See `Executor`. When stopped, it leaves SLURM's jobs alone, and ends those on this machine."""
        executor = self._executor()
        waiting = list(cells)
        jobs: dict[Any, Cell] = {}
        places: dict[Any, int] = {}  # of the jobs on this machine: each has the lowest number that was free
        is_slurm = self._cluster == "slurm"  # processes of this machine end with the sweep
        while (waiting or jobs) and not stop.received:
            while waiting and len(jobs) < self._parallel:
                cell = waiting.pop(0)
                try:
                    job = (is_slurm and self._followed(cell)) or self._submit(executor, cell, places)
                except (RuntimeError, OSError) as error:  # sbatch refuses it
                    yield cell, Outcome(failure=f"not submitted: {str(error).strip().splitlines()[-1]}")
                    continue
                jobs[job] = cell
                if is_slurm:
                    self._note(cell, job)
            ended = [job for job in jobs if job.done()]
            for job in ended:
                places.pop(job, None)
                yield jobs.pop(job), self._outcome(job)
            if not ended:
                time.sleep(SECONDS_PER_LOOK)
        if not is_slurm:
            for job in jobs:
                job._process.terminate()  # the job gets SIGTERM, and saves its state
            for job, cell in jobs.items():
                job._process.wait()
                yield cell, self._outcome(job)

    def _executor(self) -> Any:
        if self._cluster == "slurm" and not shutil.which("sbatch"):
            raise UserError(
                "--executor=slurm: no sbatch here: run it on the cluster, or give --slurm_cluster=local"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        executor: Any = self._submitit.AutoExecutor(
            self._folder,
            cluster=self._cluster,
            **{f"{self._cluster}_max_num_timeout": self._settings.retries},
        )
        if self._cluster == "slurm":
            executor._executor.update_parameters(**self._parameters)
        else:
            executor.update_parameters(timeout_min=self._minutes)
        return executor

    def _submit(self, executor: Any, cell: Cell, places: dict[Any, int]) -> Any:
        """Submits the cell. Jobs on this machine get different GPUs: two processes must not use one."""
        if self._cluster == "slurm":
            return executor.submit(Job(cell.settings))
        place = next(number for number in itertools.count() if number not in places.values())
        gpus = int(self._settings.task_gpus)
        own = range(place * gpus, (place + 1) * gpus)
        executor._executor.update_parameters(gpus_per_node=gpus, visible_gpus=own)
        job = executor.submit(Job(cell.settings))
        places[job] = place
        return job

    def _followed(self, cell: Cell) -> Any:
        """Returns the job that trains the cell already; None if there is none.

        A job that was preempted, or that SLURM no longer knows, may never end. If it does run, the lock of
        its run lets the next job wait.
        """
        number = read_json(self._jobs_file).get(_key(cell))
        if number is None:
            return None
        job: Any = self._submitit.SlurmJob(self._folder, number)
        if job.done(force_check=True) or job.state == "PREEMPTED":
            return None
        submitted = job.paths.submitted_pickle
        is_old = not submitted.exists() or time.time() - submitted.stat().st_mtime > PATIENCE
        return None if job.state == "UNKNOWN" and is_old else job

    def _note(self, cell: Cell, job: Any) -> None:
        """Adds the job to the list of those that were submitted, which other sweeps change, too."""
        with filelock.FileLock(self._jobs_file.with_name("jobs.lock"), timeout=PATIENCE):
            jobs = {**read_json(self._jobs_file), _key(cell): job.job_id}
            write_atomically(self._jobs_file, json.dumps(jobs))

    def _outcome(self, job: Any) -> Outcome:
        try:
            return job.result()
        except self._submitit.core.utils.UncompletedJobError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            return Outcome(failure=f"job {job.job_id}: {lines[-1].strip()}; its log: {job.paths.stderr}")


def _key(cell: Cell) -> str:
    return digest(json.loads(as_json(cell.identity)))[:16]
