"""The installed commands: `xql-train-offline` runs experiments/train_offline.py, and so on for the others.

setup.py names the commands. Each is an attribute of this module, created on first access.
"""

import functools
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from xql_jax.commands.command_line import COMMAND
from xql_jax.config_files import shipped


def _run(main: str) -> None:
    """Runs the script as `python experiments/MAIN.py` does, which ends the process."""
    file = shipped("experiments") / f"{main}.py"
    runpy.run_path(str(file), {COMMAND: Path(sys.argv[0]).name}, run_name="__main__")


def __getattr__(name: str) -> Callable[[], None]:
    if name.startswith("_") or not (shipped("experiments") / f"{name}.py").is_file():
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return functools.partial(_run, name)
