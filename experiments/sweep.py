"""Trains datasets × methods × settings × seeds, here or on many machines, and writes their table.

Examples:
  xql-sweep --datasets=pointmaze-umaze-v0 --methods=xql,iql --sweep='beta=0.1,0.5' --dry_run
  xql-sweep --datasets=cheetah-run --methods=xsac,sac:network=small --max_steps=500000
  xql-sweep sweep.yaml --max_steps=100000 --num_seeds=3
  xql-sweep sweep.yaml --executor=ray
  xql-sweep sweep.yaml --executor=ray --ray_address=10.0.0.1:6379 --task_gpus=0.5
  xql-sweep sweep.yaml --executor=slurm --task_gpus=1 --slurm_options=partition=gpu

sweep.yaml gives flags by their names; flags on the command line take precedence:
  datasets: [kitchen-complete-v0, pointmaze-umaze-v0]
  methods: [xql, mxql, iql]
  sweep: {beta: [0.1, 0.5, 2], loss: [plain, rescaled]}
  num_seeds: 6
  max_steps: 30000

One run trains all seeds, and all values of numeric hyperparameters that --sweep of xql-train-offline accepts,
in one program. Everything else makes a run of its own, as with xql-train-offline and xql-train-online. If the
sweep is stopped or killed, the same command trains the rest. Its table is
SAVE_DIR/tables/sweep_DIGEST.{txt,csv,md,tex}, where the digest is of the sweep's runs.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from xql_jax.errors import UserError
from xql_jax.files.paths import located
from xql_jax.workshop.commands import command_line, sweeping
from xql_jax.workshop.sweeps.sweep_settings import Sweep


class FlagsLoader(yaml.SafeLoader):
    """Reads YAML as flags are read: a key is given once, and 010 and 1:30:00 stay as they are typed."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as the base class has it
        first: [pair for pair in pairs if not pair[0].endswith(":int")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            if str(key.value) in names:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            names.add(str(key.value))
        return super().construct_mapping(node, deep)


def with_flags_of_file(arguments: Sequence[str]) -> list[str]:
    """Replaces the name of a sweep's file among the arguments by the flags that the file gives, put first.

    A list gives several values; `sweep` and `slurm_options` may be mappings.

    Raises:
        UserError: if the file is not YAML that gives flags by their names, each once.
    """
    program, *typed = arguments
    is_file = [not one.startswith("-") and one.endswith((".yaml", ".yml")) for one in typed]
    if True not in is_file:
        return list(arguments)
    path = located(typed.pop(is_file.index(True)))
    try:
        content = yaml.load(path.read_bytes(), FlagsLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: must be YAML in UTF-8: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: it must give flags by their names, as `methods: [xql, iql]`")
    words = (word.partition("=")[0] for word in typed if word.startswith("-"))
    preceding = {re.sub(r"^--?(no)?(config\.)?", "", word) for word in words}
    given = {name: value for name, value in content.items() if value is not None and name not in preceding}
    flags = [f"--{name}={typed_as(value, ' ' if name == 'sweep' else ',')}" for name, value in given.items()]
    return [program, *flags, *typed]


def typed_as(value: Any, between: str = ",") -> str:
    """Returns a value of a file as it would be typed: lists by commas, a mapping as NAME=VALUES."""
    if isinstance(value, Mapping):
        return between.join(f"{name}={typed_as(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):  # a tuple of widths is typed 256/256
        return ",".join(typed_as(one).replace(",", "/") for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    command_line.run(sweeping.sweep, Sweep, with_flags_of_file)
