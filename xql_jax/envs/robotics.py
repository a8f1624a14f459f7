"""Gymnasium-Robotics, imported without its notice."""

import contextlib
import importlib
import io
import types


def import_robotics(module: str) -> types.ModuleType:
    """Returns a module of `gymnasium_robotics.envs`.

    The package's first import prints that AdroitHand's rewards once changed; `envs/adroit.py` corrects them.
    """
    with contextlib.redirect_stderr(io.StringIO()):
        return importlib.import_module(f"gymnasium_robotics.envs.{module}")
