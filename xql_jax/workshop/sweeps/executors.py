"""Trains the cells (runs) of a sweep: here in turn, as tasks of Ray, or as jobs of SLURM.

An executor is a generator that trains each cell and yields it when it has ended. When stopped, it saves the
cells that are running, and yields them, too.
"""

import logging
import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from xql_jax.errors import Busy, UserError, needing
from xql_jax.files.paths import located, paths_from_here
from xql_jax.runs.kinds import Acting, as_plain, from_plain
from xql_jax.runs.load import Run
from xql_jax.runs.train import prepare_acting, train_run
from xql_jax.suites.tasks import SUITES
from xql_jax.training.signals import StopSignals
from xql_jax.types import Json
from xql_jax.workshop.sweeps.plan import ABSENT, BEGUN, Cell, refreshed
from xql_jax.workshop.sweeps.sweep_settings import Sweep

LOG = logging.getLogger(__name__)
SECONDS_PER_LOOK = 1.0  # between two checks whether another process has released the run, or has ended
SECONDS_TO_CONNECT = 10.0  # to a Ray cluster
SECONDS_TO_STOP = 60.0  # time for running tasks of Ray to save their state
# Beginnings of the environment variables that Ray's workers get.
PASSED_ON = (
    *(suite.data_folder.variable for suite in SUITES.values()),
    "MINARI_DATASETS_PATH",
    "JAX_",
    "NPROC",  # XLA's threads on a CPU, which decide last bits
    "XLA_",
)


# What became of a cell: its run, finished or stopped; why there is none; None: stopped before it began.
Outcome = Run | str | None
Executor = Callable[[Sequence[Cell], StopSignals], Iterator[tuple[Cell, Outcome]]]


def train_cells(
    plan: Sequence[Cell], settings: Sweep, executor: Executor, stop: StopSignals
) -> Iterator[tuple[Cell, Outcome]]:
    """Trains the unfinished cells; yields each when it has finished, stopped or failed.

    One whose worker was stopped goes on as long as it gets further each time.
    """
    begun_at: dict[str, float] = {}
    while not stop.received:
        unfinished = [cell for cell in plan if cell.state in (ABSENT, BEGUN)]
        cells = [cell for cell in unfinished if cell.step > begun_at.get(str(cell), -1)]
        if not cells:
            return
        begun_at |= {str(cell): cell.step for cell in cells}
        for cell, outcome in executor(cells, stop):
            if isinstance(outcome, str):
                begun_at[str(cell)] = math.inf
            yield cell, outcome
        plan = refreshed(plan, settings.save_dir)


def work(plain: Json, folder: str = ".", stop: StopSignals | None = None) -> Outcome:
    """Trains the run with this value (`as_plain`), or goes on with it if it was begun before.

    If another process is training the run, waits for it: it may be a worker whose driver was killed.
    Relative paths begin in the folder, where the sweep was started.
    """
    is_told = False
    try:
        os.chdir(located(folder))
        with paths_from_here():
            settings = from_plain(plain)
            if isinstance(settings, Acting):
                prepare_acting()
            while not (stop and stop.received):
                try:
                    return train_run(settings, StopSignals(stop))
                except Busy as error:
                    if not is_told:
                        LOG.info(f"{error}; waiting for it")
                    is_told = True
                    time.sleep(SECONDS_PER_LOOK)
            return None
    except UserError as error:
        return str(error)
    except Exception as error:  # other cells go on
        LOG.warning(traceback.format_exc())
        return f"{type(error).__name__}: {error}"


def in_process(cells: Sequence[Cell], stop: StopSignals) -> Iterator[tuple[Cell, Outcome]]:
    """The executor that needs no cluster and no extra packages: the cells in turn, here."""
    for cell in cells:
        if stop.received:
            return
        yield cell, work(as_plain(cell.settings), stop=stop)


def ray_tasks(settings: Sweep) -> Executor:
    """Returns the executor that runs each cell as a Ray task in a process of its own.

    If a worker dies, its task goes on from the last checkpoint in another worker.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to Ray's makers
    # Tasks that Ray ends because memory is short have a count of their own, which has no end by default.
    os.environ.setdefault("RAY_task_oom_retries", str(settings.retries))
    with needing("--executor=ray", "sweep"):
        import ray
    needs: Json = {"num_cpus": settings.task_cpus, "num_gpus": settings.task_gpus}
    task: Any = ray.remote(**needs, max_calls=1, max_retries=settings.retries)(work)

    def outcome(ended: "ray.ObjectRef[Outcome]") -> Outcome:
        try:
            return ray.get(ended)
        except ray.exceptions.TaskCancelledError:  # it had not begun, or had not saved its state yet
            return None
        except ray.exceptions.OutOfMemoryError:
            return "its machine's memory was full: give more --task_cpus"
        except ray.exceptions.RayError as error:
            return str(error).strip().splitlines()[-1]

    def run(cells: Sequence[Cell], stop: StopSignals) -> Iterator[tuple[Cell, Outcome]]:
        _connect(ray, settings.ray_address or os.environ.get("RAY_ADDRESS") or "local")
        try:
            _check_room(ray, {"CPU": settings.task_cpus, "GPU": settings.task_gpus})
            pending = {task.remote(as_plain(cell.settings), str(located("."))): cell for cell in cells}
            while pending and not stop.received:
                for ended in ray.wait(list(pending), timeout=SECONDS_PER_LOOK)[0]:
                    yield pending.pop(ended), outcome(ended)
            for waiting in pending:
                ray.cancel(waiting)  # a running task gets a KeyboardInterrupt, and saves its state
            if pending:
                for ended in ray.wait(list(pending), num_returns=len(pending), timeout=SECONDS_TO_STOP)[0]:
                    yield pending.pop(ended), outcome(ended)
        finally:
            ray.shutdown()

    return run


def _connect(ray: ModuleType, address: str) -> None:
    """Connects to the cluster, or starts a cluster here for the address `local`."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    options: Json = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options["include_dashboard"] = False
    try:
        if address not in ("local", "auto"):  # where nothing listens, Ray itself would try for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, port), SECONDS_TO_CONNECT).close()
        ray.init(address, runtime_env={"env_vars": variables}, **options)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--ray_address={address}: no cluster there: {reason}") from error


def _check_room(ray: ModuleType, wanted: Mapping[str, float]) -> None:
    """Raises UserError if no node has room for a task: the task would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= number for name, number in wanted.items()) for node in nodes):
        there = "; ".join(", ".join(f"{name} {node.get(name, 0):g}" for name in wanted) for node in nodes)
        raise UserError(f"--task_cpus, --task_gpus: no node of the cluster has so much; they have {there}")
