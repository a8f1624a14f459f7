"""The siege uses the tiny runs of the tests of runs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

from blank_pictures import blank_pictures  # noqa: F401
