"""Compiles the program of an offline run for TPUs that need not be there: what it takes, and whether it fits.

Examples:
  xql-compile --env_name=hopper-medium-v2 --num_seeds=64 --topology=v5e:2x2
  xql-compile --dataset=mine.npz --method=iql --sweep='expectile=0.7,0.9' --topology=v6e:2x4 --json
  xql-compile --env_name=antmaze-large-diverse-v2 --num_seeds=6  # for the accelerators of this machine

It takes the flags of xql-train-offline. Nothing is trained, and no data are downloaded: without --dataset the
data are --transitions rows of the task's size. TPUs need the compiler: pip install 'xql_jax[tpu-compiler]'.
"""

import json
from typing import Any

from absl import flags

from xql_jax.numerics.jax_settings import check_platforms
from xql_jax.runs.resolve import resolved
from xql_jax.workshop.commands import command_line, messages
from xql_jax.workshop.tools.compile import GIB, MIB, CompileSettings, compile_run


def main(settings: CompileSettings) -> int:
    check_platforms()
    if flags.FLAGS.print_config:
        return messages.print_settings(resolved(settings))
    report = compile_run(settings)
    if settings.json:
        print(json.dumps(report))
    else:
        print_costs(report)
    return 0


def print_costs(report: dict[str, Any]) -> None:
    used, each, taken = report["devices_used"], report["members_per_device"], report["bytes"]
    print(
        f"{report['method']}: {report['members']} member(s), batches of {report['batch_size']}, "
        f"{report['transitions']:,} transitions of {report['sizes'][0]} and {report['sizes'][1]} numbers\n"
        f"  for {report['topology']}: {used} of {report['devices']} device(s), {report['device_kind']}, "
        f"at most {each} member(s) each\n"
        f"  compiled in {report['compile_seconds']} s; exchanged between devices: "
        f"{', '.join(report['collectives']) or 'nothing'}"
    )
    parts = ("data", "members", "temporaries", "program")
    listed = ", ".join(f"{name} {taken[name] / MIB:,.0f} MiB" for name in parts)
    room = f" of {taken['of_device'] / GIB:g}" if taken["of_device"] else ""
    print(f"  memory of a device: {listed}: {taken['together'] / GIB:.2f}{room} GiB")
    kernels = ", ".join(f"{number} {kind}" for kind, number in report["kernels_by_kind"].items())
    print(
        f"  an update of {each} member(s): {report['operations_per_update'] / 1e9:.2f} GFLOP, "
        f"{report['bytes_per_update'] / 1e6:,.0f} MB read and written, "
        f"{report['kernels']} kernels: {kernels}\n"
        f"    {report['longest_path']} of these wait for each other"
    )


if __name__ == "__main__":
    command_line.run(main, CompileSettings)
