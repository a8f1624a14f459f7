"""How the processes of one run find each other, by flags or through their launcher, and connect."""

from xql_jax.commands import surroundings
from xql_jax.commands.streams import fail

import contextlib
import logging
import os
import socket
import struct
import sys
import time
from typing import NoReturn

import jax
from absl import flags
from jax._src.clusters import ClusterEnv  # how `jax.distributed.initialize` detects launchers; not public

from xql_jax.errors import UserError
from xql_jax.training.orbax_alone import hide_other_processes
from xql_jax.training.processes import ALONE, Processes

flags.disclaim_key_flags()  # the flags count as the main's own, so that its `--help` lists them

_HELLO = struct.Struct("!15sII")  # `_WORD`, the number of processes, and the number of the one that connects
_WORD = b"xql_jax process"
_COME, _GO_AWAY = b"1", b"0"  # answers of process 0: all processes have connected, or something is wrong
NAMES = ("coordinator_address", "num_processes", "process_id")


def define_flags() -> None:
    """Defines the flags of a run of several processes."""
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "HOST:PORT of process 0, for one run on several hosts, with the next two flags. Each process trains "
        "members of its own; all write to one --save_dir. Not needed under SLURM and on TPU pods.",
    )
    flags.DEFINE_integer(
        "num_processes",
        None,
        "Processes of this run, usually one per host. 1: this process trains alone, whatever launched it.",
        lower_bound=1,
        upper_bound=100_000,
    )
    flags.DEFINE_integer(
        "process_id",
        None,
        "The number of this process, from 0 to --num_processes minus 1.",
        lower_bound=0,
        upper_bound=100_000,
    )
    flags.DEFINE_integer(
        "join_seconds",
        300,
        "How long processes wait for one another at the start.",
        lower_bound=1,
        upper_bound=86_400,
    )


def joined(values: flags.FlagValues) -> Processes:
    """Waits until all processes of this run have connected; returns this process's view of them.

    Without flags or a known launcher, the process is alone. Must be called before JAX looks at any device.

    Raises:
        UserError: if the flags contradict each other, or the other processes do not connect in time.
    """
    address, count, index = values.coordinator_address, values.num_processes, values.process_id
    given = [name for name in NAMES if values[name].value is not None]
    if count == 1:
        if address is not None or index:
            raise UserError(
                "--num_processes=1: alone, a process has no --coordinator_address or other --process_id"
            )
        return ALONE
    if not given:
        found = _found(values.join_seconds)
        return ALONE if found is None else _join(*found, values.join_seconds)
    if len(given) < len(NAMES):
        missing = ", ".join(f"--{name}" for name in NAMES if name not in given)
        raise UserError(f"--{given[0]}: give {missing}, too; or none, under SLURM or on a TPU pod")
    if index >= count:
        raise UserError(f"--process_id={index}: must be from 0 to {count - 1}, with --num_processes={count}")
    _check_address(address)
    return _join(address, count, index, values.join_seconds, "deactivate")


def _found(seconds: int) -> tuple[str, int, int] | None:
    """Returns process 0's address, the number of processes and this one's number, as JAX detects them.

    None if there are no other processes.
    """
    for kind in ClusterEnv._cluster_types:
        if kind.opt_in_only_method or not kind.is_env_present():
            continue
        try:
            if kind.get_process_count() == 1:
                return None
            port = os.environ.get("JAX_COORDINATOR_PORT")
            return (
                kind.get_coordinator_address(seconds, port),
                kind.get_process_count(),
                kind.get_process_id(),
            )
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"{kind.name}: cannot tell which processes it launched ({error}): give --num_processes=1, or "
                f"all of {', '.join(f'--{name}' for name in NAMES)}"
            ) from error
    return None


def _check_address(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not host or not colon or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise UserError(f"--coordinator_address={address}: must be HOST:PORT, with a port from 1 to 65535")


def _join(address: str, count: int, index: int, seconds: int, detection: str | None = None) -> Processes:
    """Waits for the other processes, then joins JAX's service and leaves it again: see `training.processes`.

    JAX must not do the waiting: if a process does not connect, jaxlib 0.10.2 aborts.

    Args:
        detection: None: JAX finds out which devices belong to this process. "deactivate": all that it sees.
    """
    links = _meet(address, count, seconds) if index == 0 else {0: _reach(address, count, index, seconds)}
    jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM
    jax.config.update("jax_cpu_collectives_implementation", None)  # this process's devices need no network
    try:
        jax.distributed.initialize(
            address, count, index, cluster_detection_method=detection, initialization_timeout=seconds
        )
        jax.local_devices()  # the hosts exchange their devices while JAX's service still runs
        jax.distributed.shutdown()
    except (RuntimeError, ValueError, OSError, AssertionError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        _end(surroundings.told(error) or UserError(f"jax.distributed: {lines[0][:200]}"))
    hide_other_processes()
    if index:
        logging.getLogger("xql_jax").setLevel(logging.WARNING)  # process 0 reports the run's progress
    return Processes(index, count, links)


def _meet(address: str, count: int, seconds: int) -> dict[int, socket.socket]:
    """Returns, on process 0, the connections to all other processes, once they have connected."""
    links: dict[int, socket.socket] = {}
    until, wrong = time.monotonic() + seconds, ""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    dual = family == socket.AF_INET6
    try:
        server = socket.create_server(
            ("", _parts(address)[1]), family=family, backlog=count, dualstack_ipv6=dual
        )
    except OSError as error:
        raise UserError(
            f"--coordinator_address={address}: process 0 cannot listen on port {_parts(address)[1]} "
            f"({error.strerror}): give all processes an address with a free port"
        ) from error
    with server:
        while len(links) < count - 1 and not wrong:
            server.settimeout(max(0.001, until - time.monotonic()))
            try:
                link, _ = server.accept()
            except TimeoutError:
                missing = ", ".join(str(peer) for peer in range(1, count) if peer not in links)
                wrong = f"in {seconds} s (--join_seconds), of {count} processes these did not come: {missing}"
                break
            link.settimeout(10.0)
            try:
                word, told, peer = _HELLO.unpack(link.recv(_HELLO.size, socket.MSG_WAITALL))
            except (OSError, struct.error):
                word = b""
            if word != _WORD:  # another program
                link.close()
                continue
            if told != count:
                wrong = f"--num_processes: process {peer} was told of {told} processes, process 0 of {count}"
            elif peer in links or not 0 < peer < count:
                wrong = f"--process_id={peer} was given to two processes"
            links[len(links) + count if wrong else peer] = link
    for link in links.values():
        with contextlib.suppress(OSError):
            link.sendall(_GO_AWAY if wrong else _COME)
    if wrong:
        raise UserError(wrong)
    return links


def _reach(address: str, count: int, index: int, seconds: int) -> socket.socket:
    """Returns, on every other process, the connection to process 0, once all processes have connected."""
    until = time.monotonic() + seconds
    while True:
        try:
            link = socket.create_connection(_parts(address), timeout=max(0.1, until - time.monotonic()))
            break
        except OSError as error:
            if time.monotonic() >= until:
                raise UserError(
                    f"--coordinator_address={address}: process 0 could not be reached for {seconds} s "
                    f"({error.strerror or error}): check that it runs, and that this host reaches it"
                ) from error
            time.sleep(min(0.2, seconds / 10))
    try:
        link.sendall(_HELLO.pack(_WORD, count, index))
        link.settimeout(max(0.1, until - time.monotonic()) + 5.0)  # process 0 is to report who is missing
        answer = link.recv(1)
    except OSError:
        answer = b""
    if answer != _COME:
        raise UserError(
            f"--coordinator_address={address}: the processes of this run did not come together; process 0 "
            "says why"
        )
    return link


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)  # IPv6 addresses are in brackets


def _end(error: UserError) -> NoReturn:
    """Ends the process at once: a regular exit would make JAX print long messages about its service."""
    code = fail(error)
    sys.stdout.flush()
    os._exit(code)
