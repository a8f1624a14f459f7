"""The executor of SLURM: through submitit each cell (run) of a sweep is a job."""

import functools
import shlex
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xql_jax.errors import UserError, nearest, needing
from xql_jax.files import digest, write_atomically
from xql_jax.files.paths import located
from xql_jax.sweeps.executors import SECONDS_PER_LOOK, Outcome, work
from xql_jax.sweeps.plan import Cell
from xql_jax.sweeps.sweep_settings import Sweep
from xql_jax.training.signals import StopSignals
from xql_jax.types import Json

if TYPE_CHECKING:
    import submitit

DEFAULT_MINUTES = 24 * 60  # of a job, unless --slurm_options has a time
SECONDS_UNTIL_LOST = 600.0  # after its submission, for a job that SLURM does not know


class SlurmJob(functools.partial[Outcome]):
    """The call that a job makes. Near its time limit submitit queues it again, and the run goes on."""

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class Slurm:
    """The executor that submits one job per cell, with submitit's files in `folder`, on shared disks.

    If the sweep is stopped or killed, the jobs stay queued or running, and the same command follows them.
    """

    def __init__(self, settings: Sweep):
        with needing("--executor=slurm", "sweep"):
            import submitit
        self._submitit, self._settings = submitit, settings
        self.folder = located(settings.save_dir) / "slurm"
        if settings.task_gpus % 1:
            raise UserError(f"--task_gpus={settings.task_gpus:g}: with SLURM it must be a whole number")
        self._parameters: Json = {
            "job_name": "xql_jax",
            "time": DEFAULT_MINUTES,
            "cpus_per_task": settings.task_cpus,
        }
        if settings.task_gpus:
            self._parameters["gpus_per_node"] = int(settings.task_gpus)
        self._parameters |= dict(map(_option, settings.slurm_options))
        known = submitit.SlurmExecutor._valid_parameters()
        if unknown := [name for name in self._parameters if name not in known]:
            near = nearest(unknown[0], known)
            raise UserError(f"--slurm_options: unknown option {unknown[0]!r}; nearest: {near}")

    def script(self) -> str:
        """Returns the script that sbatch would get for one cell."""
        from submitit.slurm.slurm import _make_sbatch_string

        command = f"python -u -m submitit.core._submit {self.folder}"
        return _make_sbatch_string(command=command, folder=self.folder, **self._parameters)

    def __call__(self, cells: Sequence[Cell], stop: StopSignals) -> Iterator[tuple[Cell, Outcome]]:
        """See `executors`. When stopped, it leaves SLURM's jobs alone."""
        if not shutil.which("sbatch"):
            raise UserError("--executor=slurm: no sbatch here: run it on the cluster")
        executor = self._submitit.SlurmExecutor(self.folder, max_num_timeout=self._settings.retries)
        executor.update_parameters(**self._parameters)
        jobs: dict[submitit.Job[Outcome], Cell] = {}
        for cell in cells:
            try:
                job: submitit.Job[Outcome] | None = self.followed(cell)
                if job is None:
                    job = executor.submit(SlurmJob(work, cell.settings, str(located("."))))
                    write_atomically(self.job_file(cell), job.job_id)
                jobs[job] = cell
            except (RuntimeError, OSError) as error:  # sbatch refuses it
                yield cell, f"not submitted: {str(error).strip().splitlines()[-1]}"
        while jobs and not stop.received:
            ended = [job for job in jobs if job.done()]
            for done in ended:
                yield jobs.pop(done), self._outcome(done)
            if not ended:
                time.sleep(SECONDS_PER_LOOK)

    def followed(self, cell: Cell) -> "submitit.SlurmJob[Outcome] | None":
        """Returns SLURM's job that trains the cell already; None if there is none.

        A job that was preempted, or that SLURM no longer knows, may never end. If it does run, the lock of
        its run lets the next job wait.
        """
        if not (file := self.job_file(cell)).exists():
            return None
        job: submitit.SlurmJob[Outcome] = self._submitit.SlurmJob(self.folder, file.read_text())
        if job.done(force_check=True) or job.state == "PREEMPTED":
            return None
        is_old = time.time() - file.stat().st_mtime > SECONDS_UNTIL_LOST
        return None if job.state == "UNKNOWN" and is_old else job

    def job_file(self, cell: Cell) -> Path:
        """Holds the number of the cell's last job."""
        return self.folder / f"{digest(cell.identity)[:16]}.job"

    def _outcome(self, job: "submitit.Job[Outcome]") -> Outcome:
        try:
            return job.result()
        except self._submitit.core.utils.UncompletedJobError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            return f"job {job.job_id}: {lines[-1].strip()}; its log: {job.paths.stderr}"


def _option(text: str) -> tuple[str, str | int | list[str]]:
    """Parses NAME=VALUE of --slurm_options into a pair for submitit, of the type that it wants."""
    name, is_given, value = text.partition("=")
    if not is_given:
        raise UserError(f"--slurm_options={text}: each must be NAME=VALUE, as partition=gpu")
    if name in ("setup", "teardown"):  # lines of the script
        return name, [value]
    if name == "srun_args":
        return name, shlex.split(value)
    if value in ("true", "false"):
        return name, value == "true"
    return name, int(value) if value.isdecimal() and value == str(int(value)) else value
