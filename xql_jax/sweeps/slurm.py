"""Trains the cells (runs) of a sweep as SLURM jobs, or as processes on this machine, through submitit."""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xql_jax
from xql_jax.errors import UserError, nearest
from xql_jax.files import as_json, digest, read_json, write_atomically
from xql_jax.runs.settings import RunSettings
from xql_jax.sweeps.plan import Cell
from xql_jax.sweeps.worker import Outcome, Resources, extra, work
from xql_jax.training.signals import StopSignals

SECONDS_PER_LOOK = 1.0
CLUSTERS = ("slurm", "local")


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
        cluster: "slurm", or "local" for processes on this machine, 2 at a time unless `parallel` is given.
        options: of sbatch, by submitit's names: partition, account, qos, ...
        parallel: the largest number of jobs at once.
    """

    def __init__(
        self,
        resources: Resources,
        folder: Path,
        cluster: str = "slurm",
        options: Mapping[str, Any] | None = None,
        parallel: int | None = None,
    ):
        try:
            import submitit
            from submitit.slurm import slurm
        except ImportError as error:
            raise extra("slurm", error) from error
        self._submitit, self._slurm = submitit, slurm
        self._folder, self._cluster = folder.absolute(), cluster
        self._parallel = parallel or (2 if cluster == "local" else math.inf)
        if resources.gpus != int(resources.gpus):
            raise UserError(f"--task_gpus={resources.gpus:g}: with SLURM it must be a whole number")
        self._jobs_file = self._folder / "jobs.json"
        self._retries = resources.retries
        self._parameters = {
            "job_name": "xql_jax",
            "time": max(1, round(60 * resources.hours)),
            "cpus_per_task": resources.cpus,
            **({"gpus_per_node": int(resources.gpus)} if resources.gpus else {}),
            **({"mem": f"{resources.memory_gb:g}GB"} if resources.memory_gb else {}),
            **(options or {}),
        }
        known = slurm._get_default_parameters()
        for name in self._parameters:
            if name not in known:
                raise UserError(f"--slurm_options: unknown option {name!r}; nearest: {nearest(name, known)}")

    def script(self) -> str:
        """Returns the script that sbatch would get for one cell."""
        command = f"python -u -m submitit.core._submit {self._folder}"
        return self._slurm._make_sbatch_string(command=command, folder=self._folder, **self._parameters)

    def run(self, cells: Sequence[Cell], stop: StopSignals) -> Iterator[tuple[Cell, Outcome]]:
        """See `Executor`. When stopped, it leaves SLURM's jobs alone, and ends those on this machine."""
        executor = self._executor()
        waiting = list(cells)
        jobs: dict[Any, Cell] = {}
        known = read_json(self._jobs_file) if self._cluster == "slurm" and self._jobs_file.exists() else {}
        while (waiting or jobs) and not stop.received:
            while waiting and len(jobs) < self._parallel:
                cell = waiting.pop(0)
                try:
                    job = self._followed(known, cell) or executor.submit(Job(cell.settings))
                except (RuntimeError, OSError) as error:  # sbatch refuses it
                    yield cell, Outcome(failure=f"not submitted: {str(error).strip().splitlines()[-1]}")
                    continue
                jobs[job] = cell
                known[_key(cell)] = job.job_id
                write_atomically(self._jobs_file, json.dumps(known))
            ended = [job for job in jobs if job.done()]
            for job in ended:
                yield jobs.pop(job), self._outcome(job)
            if not ended:
                time.sleep(SECONDS_PER_LOOK)
        if self._cluster == "local":
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
            self._folder, cluster=self._cluster, slurm_max_num_timeout=self._retries
        )
        if self._cluster == "slurm":
            executor._executor.update_parameters(**self._parameters)
        else:
            executor.update_parameters(timeout_min=self._parameters["time"])
        return executor

    def _followed(self, known: Mapping[str, str], cell: Cell) -> Any:
        """Returns the job that trains the cell already; None if there is none."""
        if _key(cell) not in known:
            return None
        job: Any = self._submitit.SlurmJob(self._folder, known[_key(cell)])
        return None if job.done(force_check=True) else job

    def _outcome(self, job: Any) -> Outcome:
        try:
            return job.result()
        except self._submitit.core.utils.UncompletedJobError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            return Outcome(failure=f"job {job.job_id}: {lines[-1].strip()}; its log: {job.paths.stderr}")


def _key(cell: Cell) -> str:
    return digest(json.loads(as_json({**cell.identity, "pause_at": cell.settings.pause_at})))[:16]
