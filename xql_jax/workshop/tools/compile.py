"""Compiles an offline run's program for devices that need not be there, and reports the resources it needs.

The packages libtpu and jax-cuda13-plugin contain the TPUs' and the GPUs' compilers, which run on any machine.
They lay out the memory, and count the operations, bytes and kernels of the program that training would run.
No data are read: their shapes are enough.
"""

import copy
import dataclasses
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax._src.lib import xla_client

from xql_jax.data.dataset import Dataset, from_transitions
from xql_jax.data.views import view_for
from xql_jax.envs import environment_maker
from xql_jax.errors import UserError, needing
from xql_jax.numerics.jax_settings import check_matmul_precision, settings_of_jax
from xql_jax.runs.kinds import Offline
from xql_jax.runs.resolve import resolved
from xql_jax.runs.run_data import load_data
from xql_jax.settings import ANY, EITHER, MOST, setting, within
from xql_jax.training.members import at_place, learners_of, make_groups, population_mesh, stacked
from xql_jax.training.population import Population
from xql_jax.training.trainer import resident
from xql_jax.types import Array, Json, Learner

SAMPLE_ROWS = 1_024  # rows of data in the programs whose operations and bytes are counted
# Patterns in XLA's text of a program: an operation, a computation, what calls others, and what is a kernel.
LINE = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = .*? ([\w-]+)\((.*)$", re.MULTILINE)
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{\n((?:  .*\n)+)\}", re.MULTILINE)
CALLS = ("call", "conditional", "async-start")
KERNELS = ("fusion", "fusion-start", "copy", "copy-start", "custom-call", "reduce", "dot", "sort")
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
# Without these libtpu asks Google's cloud where it is, and waits, or complains.
LIBTPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}
# What XLA must know of a GPU that is not there: what both have, then the name, memory and its bandwidth.
GPU_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 l2_cache_size: 52428800
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64 device_address_bits: 64
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  device_vendor: "NVIDIA Corporation" platform_version: "Compute Capability 9.0a" ecc_enabled: true
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
  pcie_bandwidth: 34359738368 device_interconnect_info {{ active_links: 18 }}
  name: "{0}" device_memory_size: {1} memory_bandwidth: {2}
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 patch: 0 }} device_description_str: "{0}"
"""
GPUS = {
    "h100": GPU_TARGET.format("NVIDIA H100 80GB HBM3", 84942979072, 3352320000000),
    "h200": GPU_TARGET.format("NVIDIA H200", 150754820096, 4814000000000),
}
MIB, GIB = 2**20, 2**30
# GiB that programs can use, by `device_kind`, as JAX counts devices: a chip of TPU v4 and of TPU7x is two.
# Sources: cloud.google.com/tpu/docs (system architecture) and NVIDIA's data sheets.
MEMORY_BY_KIND = {
    "TPU v4": 15.75,
    "TPU v5 lite": 15.75,
    "TPU v5": 95,
    "TPU v6 lite": 31.25,
    "TPU7x": 94.75,
    "NVIDIA H100 80GB HBM3": 79,
    "NVIDIA H200": 140,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompileSettings(Offline):
    """Settings of `xql-compile`: `xql-train-offline`'s, and the devices to compile for."""

    topology: str = setting(
        "",
        ANY,
        "TPUs or GPUs to compile for: v5e:2x2, v5e:2x4, v4:2x2x1, v5p:2x2x1, v6e:2x2 and the like need "
        "xql_jax[tpu-compiler]; h100, h200 and a host with several, h100:8, need xql_jax[cuda]. Default: the "
        "accelerators of this machine.",
    )
    transitions: int = setting(
        1_000_000, within(SAMPLE_ROWS, MOST), "Size of the data, if no --dataset is given."
    )
    json: bool = setting(False, EITHER, "Print the numbers as JSON.")


@settings_of_jax()
def compile_run(settings: CompileSettings) -> Json:
    """Compiles the run's program; returns what --json prints. UserError if the members do not fit."""
    settings = resolved(settings)
    learner, every, ramps, members = settings.learner, settings.members, settings.ramps, len(settings.members)
    devices = devices_of(settings.topology)
    view, rows = data_shapes(settings)
    used = population_mesh(members, devices).devices.tolist()
    per_device = -(-members // len(used))
    batch, size = view.batch, settings.batch_size
    source = resident(batch, size, ramps, together=True)
    population = Population(learner, every[:1], source, together=True)
    population.matmul_precision = settings.matmul_precision
    learners = stacked(learners_of(learner, every))
    singly = copy.copy(population)
    # What is drawn for many updates would count as a single update's.
    singly.source = dataclasses.replace(source, most_ahead=1)
    kind = devices[0].device_kind
    what = f"{rows:,} transitions and {members} member(s) do not fit into the memory of {kind}"
    try:
        started = time.perf_counter()
        whole = compile_population(population, learners, view.size, used, per_device, rows)
        seconds = time.perf_counter() - started
        counted = compile_population(singly, learners, view.size, used, per_device, SAMPLE_ROWS)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise UserError(f"{what}: {str(error).splitlines()[0]}") from None
    memory, room = bytes_of(whole, counted), MEMORY_BY_KIND.get(kind)
    if room and memory["together"] > room * GIB:  # GPUs' compiler does not look
        raise UserError(f"{what}: they take {memory['together'] / GIB:.1f} GiB of each, which has {room:g}")
    text = whole.as_text() or ""
    kernels, costs = kernels_in(text), cost_analysis(counted)
    return {
        "method": settings.method,
        "env_name": settings.env_name,
        "topology": settings.topology or "this machine",
        "device_kind": kind,
        "devices": len(devices),
        "devices_used": len(used),
        "members": members,
        "members_per_device": per_device,
        "batch_size": settings.batch_size,
        "transitions": rows,
        "sizes": [view.observation_dim, view.action_dim // settings.action_chunk],
        "compile_seconds": round(seconds, 1),
        "collectives": [name for name in COLLECTIVES if f" {name}(" in text or f" {name}-start(" in text],
        "kernels": sum(kernels.values()),
        "kernels_by_kind": kernels,
        "longest_path": longest_path(text),
        "bytes": {**memory, "of_device": round(room * GIB) if room else None},
        # What all members of a device do. Bytes are counted with few rows of data: the compiler counts
        # all rows as read when a minibatch is taken from them.
        "operations_per_update": costs["flops"],
        "bytes_per_update": costs["bytes accessed"],
    }


def devices_of(topology: str) -> Sequence[jax.Device]:
    """Returns the devices of a topology of TPUs or GPUs by its name, or this machine's accelerators."""
    if not topology:
        if jax.default_backend() == "cpu":
            raise UserError("--topology: this machine has no accelerator: name some, as v5e:2x2 or h100")
        return jax.local_devices()
    from jax.experimental import topologies

    kind, _, count = topology.partition(":")
    try:
        if kind in GPUS:
            with needing("--topology", "cuda"):
                import jax_cuda13_plugin  # noqa: F401
            shape = {"topology": f"1x1x{int(count or 1)}", "target_config": GPUS[kind]}
            return topologies.get_topology_desc(platform="cuda", topology_name="", **shape).devices
        with needing("--topology", "tpu-compiler"):
            import libtpu  # noqa: F401
        for name, value in LIBTPU_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        return topologies.get_topology_desc(topology, "tpu").devices
    except (RuntimeError, ValueError) as error:  # JAX without the plugin
        wanted, reason = "v5e:2x2, v4:2x2x1, h100 or h200:8", str(error).splitlines()[0]
        raise UserError(f"--topology={topology}: want a topology such as {wanted}: {reason}") from None


def data_shapes(settings: CompileSettings) -> tuple[Dataset, int]:
    """Returns data in the learner's form, and how many rows the program is to be compiled for."""
    if settings.dataset:
        view = load_data(settings, None).dataset
        assert view is not None
        return view, view.size
    task = settings.task
    assert task is not None
    observation_dim, action_dim = environment_maker(task).sizes(task)
    observations = np.zeros((SAMPLE_ROWS, observation_dim), np.float32)
    rows = {
        "observations": observations,
        "actions": np.zeros((SAMPLE_ROWS, action_dim), np.float32),
        "rewards": np.zeros(SAMPLE_ROWS, np.float32),
        "terminals": np.arange(SAMPLE_ROWS) % 2 == 1,
        "next_observations": observations,
    }
    view = view_for(settings.learner, from_transitions(rows, "shapes"), settings.horizon)
    return view, settings.transitions


def compile_population(
    population: Population,
    learners: Learner,
    size: int,
    devices: Sequence[jax.Device],
    members: int,
    rows: int,
) -> jax.stages.Compiled:
    """Compiles the program for `members` a device and data of `rows`, from a population with `size` rows.

    `learners` are all members', stacked.
    """
    [group] = make_groups(members * len(devices), True, devices)

    def of_members(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((len(group.indices), *leaf.shape), leaf.dtype, sharding=group.split)

    def of_data(leaf: Array) -> jax.ShapeDtypeStruct:
        shape = (rows, *leaf.shape[1:]) if leaf.shape[:1] == (size,) else leaf.shape
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=group.shared)

    states = jax.tree.map(of_members, jax.eval_shape(at_place, population.groups[0].members.apart, 0))
    data = jax.tree.map(of_data, population.source.data)
    number = jax.ShapeDtypeStruct((), np.int32)
    platform = devices[0].platform
    check_matmul_precision(population.matmul_precision, platform)
    with settings_of_jax(population.matmul_precision):
        traced = population.program(group, learners).trace(*states, data, number, number)
        lowered = traced.lower(lowering_platforms=(platform.replace("gpu", "cuda"),))
        return lowered.compile()


def bytes_of(program: jax.stages.Compiled, with_few_rows: jax.stages.Compiled) -> dict[str, int]:
    """Returns the bytes that a program takes of a device, by purpose; the other has few rows of data."""
    memory: Any = program.memory_analysis()
    state, temporaries, code = (
        state_bytes(program),
        memory.temp_size_in_bytes,
        memory.generated_code_size_in_bytes,
    )
    data = state - state_bytes(with_few_rows)
    return {
        "data": data,
        "members": state - data,
        "temporaries": temporaries,
        "program": code,
        "together": state + temporaries + code,
    }


def state_bytes(program: jax.stages.Compiled) -> int:
    """Returns the bytes of the data, and of the members' states before and after the program."""
    memory: Any = program.memory_analysis()
    return memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes


def cost_analysis(program: jax.stages.Compiled) -> dict[str, float]:
    """Returns the compiler's counts; for absent GPUs it states none: XLA's general counts."""
    if costs := program.cost_analysis():
        return costs
    [module] = program.runtime_executable().hlo_modules()  # type: ignore[union-attr]
    return xla_client._xla.hlo_module_cost_analysis(jax.devices("cpu")[0].client, module)


def kernels_in(text: str) -> dict[str, int]:
    """Counts the kernels of the loop that has most of them, by kind, in XLA's text of a program."""
    bodies = dict(COMPUTATION.findall(text))

    def count(name: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        for _, operation, rest in LINE.findall(bodies.get(name, "")):
            if operation in CALLS:
                for called in set(re.findall(r"[\w.-]+", rest)) & bodies.keys():
                    counts += count(called)
            elif operation in KERNELS:
                counts[kernel_kind(operation, rest)] += 1
        return counts

    loops = re.findall(r" while\(.*body=%?([\w.-]+)", text)
    counts = [dict(count(loop)) for loop in loops]
    return max(counts, key=lambda kinds: sum(kinds.values()), default={})


def longest_path(text: str) -> int:
    """Returns the most kernels of a loop of which each needs the last, in XLA's text of a program."""
    bodies = dict(COMPUTATION.findall(text))

    def length(name: str) -> int:
        until: dict[str, int] = {}  # by the operation, itself included
        for result, operation, rest in LINE.findall(bodies[name]):
            words = set(re.findall(r"[\w.-]+", rest.partition(", metadata=")[0]))
            inner = [length(word) for word in words & bodies.keys()] if operation in CALLS else []
            own = max(inner, default=int(operation in KERNELS))
            until[result] = own + max((until[word] for word in words & until.keys()), default=0)
        return max(until.values(), default=0)

    return max(map(length, re.findall(r" while\(.*body=%?([\w.-]+)", text)), default=0)


def kernel_kind(operation: str, rest: str) -> str:
    """Returns the kind of a kernel: products of matrices, reductions, other arithmetic, copies or others."""
    if operation == "dot" or re.search(r"kind=kOutput|triton\w*gemm|__cublas", rest):
        return "products"
    kinds = {"kind=kInput": "reductions", "kind=kLoop": "arithmetic"}
    other = "copies" if operation == "copy" else "others"
    return next((kind for word, kind in kinds.items() if word in rest), other)
