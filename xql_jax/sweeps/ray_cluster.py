"""Trains the cells (runs) of a sweep on a Ray cluster: an existing one, or one that ends with the sweep."""

import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import xql_jax
from xql_jax.errors import UserError
from xql_jax.sweeps.plan import Cell
from xql_jax.sweeps.settings import ExecutorSettings
from xql_jax.sweeps.worker import Outcome, extra, work
from xql_jax.training.signals import StopSignals

SECONDS_PER_LOOK = 0.5
SECONDS_TO_CONNECT = 10.0
SECONDS_TO_STOP = 60.0  # time for running tasks to save their state
PASSED_ON = (
    "D4RL_DATASET_DIR",
    "MINARI_DATASETS_PATH",
    "JAX_",
    "XLA_",
)  # beginnings of the environment variables that workers get


class RayCluster:
    """The executor that runs each cell as a Ray task in a process of its own.

    If a worker dies, its task goes on from the last checkpoint in another worker; other tasks are not
    affected. Nodes need the same version of xql_jax, and --save_dir on shared disks.
    """

    def __init__(self, settings: ExecutorSettings):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to Ray's makers
        # Tasks that Ray ends because memory is short have a count of their own, which has no end by default.
        os.environ.setdefault("RAY_task_oom_retries", str(settings.retries))
        try:
            import ray
        except ImportError as error:
            raise extra("ray", error) from error
        self._ray, self._settings = ray, settings
        self._address = settings.ray_address or os.environ.get("RAY_ADDRESS") or "local"

    def run(self, cells: Sequence[Cell], stop: StopSignals) -> Iterator[tuple[Cell, Outcome]]:
        """See `Executor`."""
        ray = self._ray
        self._connect()
        try:
            self._check_size()
            pending = {
                self._task.remote(cell.settings, xql_jax.__version__, os.getcwd()): cell for cell in cells
            }
            while pending and not stop.received:
                for ended in ray.wait(list(pending), timeout=SECONDS_PER_LOOK)[0]:
                    yield pending.pop(ended), self._outcome(ended)
            for task in pending:
                ray.cancel(task)  # a running task gets a KeyboardInterrupt, and saves its state
            for ended in (
                ray.wait(list(pending), num_returns=len(pending), timeout=SECONDS_TO_STOP)[0]
                if pending
                else ()
            ):
                yield pending.pop(ended), self._outcome(ended)
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        variables = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
        self._check_address()
        options: dict[str, Any] = {"include_dashboard": False} if self._address == "local" else {}
        try:
            self._ray.init(
                self._address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": variables},
                **options,
            )
        except (ConnectionError, RuntimeError, ValueError, self._ray.exceptions.RayError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"--ray_address={self._address}: no cluster there: {reason}") from error

    def _check_address(self) -> None:
        """Raises UserError if nothing listens at the address. Ray itself would try for minutes."""
        host, _, port = self._address.removeprefix("ray://").rpartition(":")
        if self._address in ("local", "auto"):
            return
        try:
            socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
        except (OSError, ValueError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UserError(f"--ray_address={self._address}: no cluster there: {reason}") from error

    def _check_size(self) -> None:
        """Raises UserError if no node has room for a task: the task would wait for ever."""
        settings = self._settings
        memory = (settings.task_memory_gb or 0) * 2**30
        wanted = {"CPU": settings.task_cpus, "GPU": settings.task_gpus, "memory": memory}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= number for name, number in wanted.items()) for node in nodes):
            there = "; ".join(", ".join(f"{name} {node.get(name, 0):g}" for name in wanted) for node in nodes)
            raise UserError(
                "--task_cpus, --task_gpus, --task_memory_gb: no node of the cluster has so much; they have "
                f"{there}"
            )

    @property
    def _task(self) -> Any:
        settings = self._settings
        memory: dict[str, Any] = (
            {"memory": settings.task_memory_gb * 2**30} if settings.task_memory_gb else {}
        )
        return self._ray.remote(
            num_cpus=settings.task_cpus,
            num_gpus=settings.task_gpus,
            max_calls=1,
            max_retries=settings.retries,
            **memory,
        )(work)

    def _outcome(self, task: Any) -> Outcome:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(task)
        except exceptions.TaskCancelledError:  # the task had not begun, or had not saved its state yet
            return Outcome(stopped=signal.SIGINT)
        except exceptions.WorkerCrashedError:
            return Outcome(failure=f"its workers died {self._settings.retries + 1} times")
        except exceptions.OutOfMemoryError:
            return Outcome(
                failure=f"Ray ended its workers {self._settings.retries + 1} times because the memory of "
                "their machine was nearly full: give --task_memory_gb or more --task_cpus"
            )
        except exceptions.RayError as error:
            return Outcome(failure=str(error).strip().splitlines()[-1])
