"""The installed commands, which setup.py names: `train_offline` runs experiments/train_offline.py."""

import functools
import runpy
from collections.abc import Callable

from xql_jax.runs.config_files import shipped


def __getattr__(name: str) -> Callable[[], object]:
    """Returns a function that runs the script as `python experiments/NAME.py` does, and ends the process."""
    file = shipped("experiments") / f"{name}.py"
    if name.startswith("_") or not file.is_file():
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return functools.partial(runpy.run_path, str(file), run_name="__main__")
