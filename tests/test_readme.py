"""What README promises: its length, and that every block runs as printed in a bare clone."""

import os
import shutil
import subprocess

import pytest
from guides import ROOT, blocks

OURS = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "PYTEST_ADDOPTS")


def test_it_is_read_in_a_few_minutes_and_begins_with_the_installation():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 150
    assert next(line for line in text.splitlines() if line.startswith("## ")) == "## Install"


@pytest.mark.release
@pytest.mark.timeout(3_600)
def test_every_command_runs_as_printed_in_a_bare_clone(tmp_path):
    """Installation included: an empty environment, no dataset and no compiled program are at hand."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    shutil.copy(ROOT / "README.md", clone)
    environment = {name: value for name, value in os.environ.items() if name not in OURS}
    environment |= {"D4RL_DATASET_DIR": str(tmp_path / "d4rl"), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    commands = [block for block in blocks("README.md", "sh") if not block.reason]
    assert commands
    # One shell for all: a block may need what an earlier one has made or activated.
    script = "set -euo pipefail\n" + "\n".join(block.code for block in commands)
    run = subprocess.run(
        ["bash", "-c", script], cwd=clone, env=environment, capture_output=True, text=True, timeout=1_800
    )
    assert run.returncode == 0, f"{run.stdout[-3_000:]}\n{run.stderr[-3_000:]}"
    assert "Traceback" not in run.stderr
    assert "error:" not in run.stderr
    assert "done: pointmaze-umaze-v0, xql, 30,000 updates" in run.stdout
    pictures = sorted(path.name for path in clone.glob("results/**/*.png"))
    assert {"maze.png", "learning_curve.png", "figure_2.png"} <= set(pictures)
