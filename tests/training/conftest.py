"""No test here waits for the disk, and all find the environment in JAX."""

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "envs"))  # an environment in JAX


@pytest.fixture(scope="module", autouse=True)
def _no_loss_of_power():
    """Kills are tried here, which leave what was written. What looks at `os.fsync` itself patches it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
