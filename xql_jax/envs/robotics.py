"""Gymnasium-Robotics, imported without its notice."""

import contextlib
import importlib
import io
import types

from xql_jax.errors import needing


def import_robotics(module: str) -> types.ModuleType:
    """Returns a module of `gymnasium_robotics.envs`.

    The package's first import prints that AdroitHand's rewards once changed; `envs/adroit.py` corrects them.

    Raises:
        UserError: if it is not installed.
    """
    needed = needing("the simulation of Kitchen and Adroit", "simulators")
    with needed, contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module(f"gymnasium_robotics.envs.{module}")
