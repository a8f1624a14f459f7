"""The executor of SLURM: through submitit each cell (run) of a sweep is a job."""

import contextlib
import logging
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xql_jax.errors import UserError, nearest, needing
from xql_jax.files import digest, write_atomically
from xql_jax.files.paths import located
from xql_jax.runs.kinds import as_plain
from xql_jax.training.progress import print_lines
from xql_jax.training.signals import WARNINGS, StopSignals
from xql_jax.types import Json
from xql_jax.workshop.sweeps.executors import SECONDS_PER_LOOK, Outcome, work
from xql_jax.workshop.sweeps.plan import Cell
from xql_jax.workshop.sweeps.sweep_settings import Sweep

if TYPE_CHECKING:
    import submitit

LOG = logging.getLogger(__name__)
DEFAULT_MINUTES = 24 * 60  # of a job, unless --slurm_options has a time
SECONDS_PER_QUESTION = 10.0  # between two questions to SLURM, which has other users, too
SECONDS_PER_TRY = 60.0  # between two submissions while SLURM admits no more jobs, unless a job has ended
LIMITS = "SubmitJob", "temporarily"  # in what sbatch says when the user has, or all have, as many as may be
# SLURM's words for jobs that will not run again; each other word is of a job that runs, or will.
ENDED = "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT"
# Beginnings of SLURM's variables that are the cluster's, not the job's.
OF_CLUSTER = "SLURM_CLUSTERS", "SLURM_CONF", "SLURM_JWT"


def train_in_job(plain: Json, folder: str, retries: int) -> Outcome:
    """Trains the run in a job, whose log has the run's lines; see `work`.

    A job that a signal stops has no result: SLURM decides whether it goes on. After a warning its script has
    it queued again, but only `retries` times in vain; then the result is the run, unfinished.
    """
    print_lines()
    with StopSignals() as stop:
        outcome, number = work(plain, folder, stop), stop.received
        if isinstance(outcome, str):
            LOG.warning(outcome)
        elif number and not (outcome and outcome.status == "finished"):
            step, begun = (outcome.summary["step"], outcome.record["resumed"]) if outcome else (0, [])
            got_further = step > (begun[-1]["after_step"] if begun else 0)
            LOG.info(f"stopped by {number.name} after step {step:,}")
            if number not in WARNINGS or got_further or int(os.getenv("SLURM_RESTART_COUNT", 0)) < retries:
                raise SystemExit(128 + number)  # submitit writes no result
            LOG.warning("it got no further: give its jobs more time")
        return outcome


class Slurm:
    """The executor that submits one job per cell, with submitit's files in `folder`, on shared disks.

    If the sweep is stopped or killed, the jobs stay queued or running, and the same command follows them.
    """

    def __init__(self, settings: Sweep):
        with needing("--executor=slurm", "sweep"):
            import submitit
        self._submitit, self._settings = submitit, settings
        self.folder = located(settings.save_dir) / "slurm"
        if "%" in str(self.folder):
            raise UserError(f"--save_dir={self.folder.parent}: SLURM replaces % in the names of files")
        if settings.task_gpus % 1:
            raise UserError(f"--task_gpus={settings.task_gpus:g}: with SLURM it must be a whole number")
        self._parameters: Json = {
            "job_name": "xql_jax",
            "time": DEFAULT_MINUTES,
            "cpus_per_task": settings.task_cpus,
            "stderr_to_stdout": True,
        }
        if settings.task_gpus:
            self._parameters["gpus_per_node"] = int(settings.task_gpus)
        self._parameters |= dict(map(_option, settings.slurm_options))
        known = submitit.SlurmExecutor._valid_parameters()
        # 128 + USR1 or USR2, which come before a time limit and, if SLURM is set so, at a preemption.
        again = 'case $code in 138 | 140) scontrol requeue "$SLURM_JOB_ID" ;; esac'
        self._parameters["teardown"] = ["code=$?", *self._parameters.get("teardown", ()), again, "exit $code"]
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
        while (states := known_states()) is None and not stop.received:
            time.sleep(SECONDS_PER_LOOK)
        followed = [(self.followed(cell, states), cell) for cell in cells]
        jobs = {job: cell for job, cell in followed if job}
        waiting = [cell for job, cell in followed if not job]
        ask_at = try_at = 0.0
        while (jobs or waiting) and not stop.received:
            if waiting and time.monotonic() >= try_at:
                job = self._submitted(waiting[0])
                if stop.received:  # Ctrl-C in a terminal ends sbatch, too
                    return
                if isinstance(job, str) and any(sign in job for sign in LIMITS):
                    if not try_at:
                        LOG.info(f"SLURM admits no more jobs: {len(waiting)} wait until a job ends: {job}")
                    try_at = time.monotonic() + SECONDS_PER_TRY
                elif isinstance(job, str):
                    yield waiting.pop(0), f"not submitted: {job.splitlines()[-1]}"
                else:
                    jobs[job] = waiting.pop(0)
                continue
            states = None
            if time.monotonic() >= ask_at:
                states, ask_at = known_states(), time.monotonic() + SECONDS_PER_QUESTION
            for job in [job for job in jobs if not self._is_alive(job, states)]:
                yield jobs.pop(job), self._outcome(job, (states or {}).get(job.job_id, ""))
                try_at = min(try_at, time.monotonic() + SECONDS_PER_QUESTION)  # SLURM counts it until then
            time.sleep(SECONDS_PER_LOOK)

    def _submitted(self, cell: Cell) -> "submitit.Job[Outcome] | str":
        """Returns the cell's new job; what sbatch says if it refuses."""
        try:
            executor = self._submitit.SlurmExecutor(self.folder)
            executor.update_parameters(**self._parameters)
            call = train_in_job, as_plain(cell.settings), str(located(".")), self._settings.retries
            with _as_outside_of_jobs():
                job: submitit.Job[Outcome] = executor.submit(*call)
            write_atomically(self.job_file(cell), job.job_id)
            return job
        except (RuntimeError, OSError) as error:
            return str(error).strip() or str(error.__cause__)  # sbatch may have died without a word

    def followed(self, cell: Cell, states: Mapping[str, str] | None) -> "submitit.Job[Outcome] | None":
        """Returns the job that runs the cell already, or will; None if there is none."""
        if not (file := self.job_file(cell)).exists():
            return None
        job: submitit.Job[Outcome] = self._submitit.SlurmJob(self.folder, file.read_text())
        return job if self._is_alive(job, states) else None

    def job_file(self, cell: Cell) -> Path:
        """Holds the number of the cell's last job."""
        return self.folder / f"{digest(cell.identity)[:16]}.job"

    def _is_alive(self, job: "submitit.Job[Outcome]", states: Mapping[str, str] | None) -> bool:
        """Returns whether the job runs or will; if SLURM has not been asked, whether it has no result."""
        has_ended = states is not None and states.get(job.job_id, "") in ENDED  # "": SLURM has forgotten it
        return not has_ended and job.paths.result_pickle.name not in os.listdir(self.folder)  # asks NFS anew

    def _outcome(self, job: "submitit.Job[Outcome]", state: str) -> Outcome:
        if job.paths.result_pickle.exists():
            with contextlib.suppress(RuntimeError):  # submitit's, for what `work` does not catch
                return job.result()
        if state == "CANCELLED":
            return f"job {job.job_id} was cancelled; the same command goes on"
        last = " ".join((job.stdout() or "").splitlines()[-1:])
        LOG.warning(f"job {job.job_id} has no result ({state}): {last}; its log: {job.paths.stdout}")
        return None


@contextlib.contextmanager
def _as_outside_of_jobs() -> Iterator[None]:
    """Context manager without the variables of a job that the sweep runs in, as sbatch hands all on.

    There, a task of an array would be taken for a job, and cores would be bound that another job has.
    """
    hidden = {
        name: os.environ.pop(name)
        for name in (os.environ.copy() if "SLURM_JOB_ID" in os.environ else ())
        if name.startswith("SLURM_") and not name.startswith(OF_CLUSTER)
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def known_states() -> dict[str, str] | None:
    """Returns SLURM's words for this user's jobs, by their numbers; None if it does not answer."""
    command = ["squeue", "--noheader", "--states=all", f"--user={os.getuid()}", "--format=%A %T"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SQUEUE_")}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    if answer.returncode:
        LOG.warning(f"SLURM does not answer, and is asked again: {answer.stderr.strip()}")
        return None
    return dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())


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
