"""Compiles the program of an offline run for devices that need not be there, and tells what it takes there.

A TPU's compiler is in the package libtpu and runs on any machine: it lays out the memory, and counts the
operations and bytes of the program that training would run. The data are only shapes.
"""

import dataclasses
import math
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from xql_jax.data.dataset import Dataset
from xql_jax.data.views import view_for
from xql_jax.envs import choose_suite
from xql_jax.errors import UserError, needing
from xql_jax.jax_settings import settings_of_jax
from xql_jax.runs.job import Job
from xql_jax.runs.offline import offline_job
from xql_jax.runs.run_data import load_data
from xql_jax.runs.run_settings import OfflineSettings
from xql_jax.settings import setting
from xql_jax.training.data_population import offline_population
from xql_jax.training.groups import make_groups, population_mesh
from xql_jax.training.members import member_shapes
from xql_jax.training.population import Population
from xql_jax.types import Batch

FEW = 1_024  # rows of data in the programs whose bytes are counted
KERNELS = ("fusion", "copy", "custom-call")  # in XLA's text
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# Without these libtpu asks Google's cloud where it is, and waits, or complains.
SURROUNDINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}
MIB, GIB = 2**20, 2**30


class DataSheet(NamedTuple):
    """What one device can do, as JAX counts devices: a chip of TPU v4 and of TPU7x is two."""

    memory: float  # GiB that programs can use
    tflops: float  # of matrix products in the precision that JAX multiplies float32 with by default there
    bandwidth: float  # GB/s of the memory


# By `device_kind`. TPUs multiply float32 in bfloat16 by default; GPUs' numbers are float32's. Sources:
# cloud.google.com/tpu/docs (system architecture) and NVIDIA's data sheets.
DATA_SHEETS = {
    "TPU v4": DataSheet(15.75, 137.5, 614),
    "TPU v5 lite": DataSheet(15.75, 197, 819),
    "TPU v5": DataSheet(95, 459, 2765),
    "TPU v6 lite": DataSheet(31.25, 918, 1640),
    "TPU7x": DataSheet(94.75, 1153, 3690),
    "NVIDIA H100 80GB HBM3": DataSheet(79, 67, 3350),
    "NVIDIA H200": DataSheet(140, 67, 4800),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectionSettings(OfflineSettings):
    """Settings of `xql-compile`: those of `xql-train-offline`, and for what it is compiled."""

    topology: str = setting(
        "",
        "TPUs to compile for, such as v5e:2x2, v5e:2x4, v4:2x2x1, v5p:2x2x1 or v6e:2x2; needs "
        "xql_jax[tpu-compiler]. Default: the accelerators of this machine.",
    )
    transitions: int = setting(1_000_000, "Size of the data, if no --dataset is given.", least=FEW)
    json: bool = setting(False, "Print the numbers as JSON.")


class CompiledProgram(NamedTuple):
    """A compiled program in numbers, for each device."""

    members: int
    seconds: float  # of compiling
    arguments: int  # bytes of the data and the members' states
    results: int  # bytes of the states that it returns
    temporaries: int  # bytes
    code: int  # bytes
    operations: float  # of an update of the device's members
    traffic: float  # bytes that an update reads and writes, as the compiler counts them
    kernels: int  # of an update: fusions, copies and calls in the largest loop
    collectives: list[str]

    @property
    def states(self) -> int:
        return self.arguments + self.results

    @property
    def memory(self) -> int:
        return self.states + self.temporaries + self.code


@settings_of_jax()
def project(settings: ProjectionSettings) -> dict[str, Any]:
    """Compiles the run's program; returns what --json prints.

    Raises:
        UserError: if a setting is invalid, or the members do not fit; then it says how many do.
    """
    if settings.data_on == "host":
        raise UserError("--data_on=host: what is compiled has its data on the device: leave it out")
    job = offline_job(settings)
    devices = devices_of(settings.topology)
    view, rows = shapes_of_data(job, settings)
    population = offline_population(
        job.learner, job.members[:1], view.batch, job.settings.batch_size, together=True
    )
    kind, number = devices[0].device_kind, len(job.members)
    sheet, used = DATA_SHEETS.get(kind), population_mesh(number, devices).devices.tolist()
    each = -(-number // len(used))

    def compiled(members: int, rows: int) -> CompiledProgram:
        return compile_population(population, view.size, used, members, rows)

    try:
        alone, at, few = compiled(1, rows), each, None
        while few is None:
            try:
                few = compiled(at, FEW)
            except jax.errors.JaxRuntimeError as error:
                _check_is_memory(error)
                at //= 2
        other = compiled(at // 2 or 2, FEW)
        # Temporaries and code may shrink with more members; their states do not.
        more = few.members - other.members
        of_member = max((few.memory - other.memory) / more, (few.states - other.states) / more)
        of_data = alone.arguments - (few if at == 1 else compiled(1, FEW)).arguments
        fitting = None
        if sheet:
            fixed = of_data + few.memory - at * of_member
            fitting = len(used) * max(0, math.floor((sheet.memory * GIB - fixed) / of_member))
            if fitting < number:
                raise UserError(
                    f"--num_seeds={settings.num_seeds}: {number} member(s) do not fit: on {len(used)} "
                    f"device(s) they take {(fixed + each * of_member) / GIB:.1f} GiB each, and {kind} has "
                    f"{sheet.memory:g}; at most {fitting} fit"
                )
        full = alone if each == 1 else compiled(each, rows)
    except jax.errors.JaxRuntimeError as error:
        _check_is_memory(error)
        raise UserError(
            f"{rows:,} transitions and {number} member(s) do not fit into the memory of {kind}: "
            f"{str(error).splitlines()[0]}"
        ) from None
    return {
        "algorithm": job.settings.config.algorithm,
        "env_name": job.settings.env_name,
        "topology": settings.topology or "this machine",
        "device_kind": kind,
        "devices": len(devices),
        "devices_used": len(used),
        "members": number,
        "members_per_device": each,
        "batch_size": job.settings.batch_size,
        "transitions": rows,
        "sizes": [view.observation_dim, view.action_dim],
        "compile_seconds": round(full.seconds, 1),
        "collectives": full.collectives,
        "kernels": full.kernels,
        "bytes": {
            "data": of_data,
            "members": full.states - of_data,
            "temporaries": full.temporaries,
            "program": full.code,
            "together": full.memory,
            "of_device": round(sheet.memory * GIB) if sheet else None,
            "a_member_more": round(of_member),
        },
        "members_that_fit": fitting,
        # What all members of a device do. Bytes are counted with few rows of data: the compiler counts
        # all rows as read when a minibatch is taken from them.
        "operations_per_update": few.operations,
        "bytes_per_update": few.traffic,
        # Updates per second of all members that the data sheet allows, by what bounds them.
        "bounds": sheet
        and {
            "arithmetic": number * sheet.tflops * 1e12 / few.operations,
            "memory": number * sheet.bandwidth * 1e9 / few.traffic,
        },
    }


def devices_of(topology: str) -> Sequence[Any]:
    """Returns the devices of a TPU topology by its name, or this machine's accelerators."""
    if not topology:
        if jax.default_backend() == "cpu":
            raise UserError("--topology: this machine has no accelerator: name TPUs, such as v5e:2x2")
        return jax.local_devices()
    with needing("--topology", "tpu-compiler"):
        import libtpu  # noqa: F401
    from jax.experimental import topologies

    for name, value in SURROUNDINGS.items():
        os.environ.setdefault(name, value)
    try:
        return topologies.get_topology_desc(topology, "tpu").devices
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--topology={topology}: want one such as v5e:2x2 or v4:2x2x1: {reason}") from None


def shapes_of_data(job: Job, settings: ProjectionSettings) -> tuple[Dataset, int]:
    """Returns data in the learner's form, and how many rows the program is to be compiled for."""
    if settings.dataset:
        view = load_data(job, None).dataset
        return view, view.size
    task = job.settings.task
    observation_dim, action_dim = choose_suite(task, job.settings.simulation).sizes(task)
    ends = np.arange(FEW) % 2 == 1
    zeros, masks = np.zeros(FEW, np.float32), 1.0 - ends.astype(np.float32)
    observations = np.zeros((FEW, observation_dim), np.float32)
    actions = np.zeros((FEW, action_dim), np.float32)
    batch: Any = (observations, actions, zeros, masks, observations)
    return view_for(job.learner, Dataset(Batch(*batch), ends, "shapes")), settings.transitions


def compile_population(
    population: Population, size: int, devices: Sequence[Any], members: int, rows: int
) -> CompiledProgram:
    """Compiles the program for `members` a device and data of `rows`, from a population with `size` rows."""
    [group] = make_groups(members * len(devices), True, devices)

    def of_members(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((len(group.indices), *leaf.shape), leaf.dtype, sharding=group.split)

    def of_data(leaf: Any) -> jax.ShapeDtypeStruct:
        shape = (rows, *leaf.shape[1:]) if leaf.shape[:1] == (size,) else leaf.shape
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=group.shared)

    own = jax.tree.map(of_members, member_shapes(population.groups[0].members.apart))
    data, number = jax.tree.map(of_data, population.data), jax.ShapeDtypeStruct((), np.int32)
    started = time.perf_counter()
    program = population.program(group).lower(*own, data, number, number).compile()
    seconds = time.perf_counter() - started
    costs, memory, text = program.cost_analysis(), program.memory_analysis(), program.as_text()
    return CompiledProgram(
        members,
        seconds,
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes - memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
        memory.generated_code_size_in_bytes,
        costs["flops"],
        costs["bytes accessed"],
        max(sum(body.count(f" {kernel}(") for kernel in KERNELS) for body in text.split("\n}\n")),
        collectives_in(text),
    )


def collectives_in(text: str) -> list[str]:
    """Returns the collective operations in XLA's text of a program."""
    return [name for name in COLLECTIVES if f" {name}(" in text or f" {name}-start(" in text]


def _check_is_memory(error: jax.errors.JaxRuntimeError) -> None:
    """Raises the error unless it says that the program does not fit into the devices' memory."""
    if "RESOURCE_EXHAUSTED" not in str(error):
        raise error
