"""README, the guides and the tutorial: every link leads somewhere, and every block of code is tried."""

import ast
import os
import shutil
import subprocess
import warnings

import numpy as np
import pytest
import yaml
from guides import PAGES, ROOT, anchors, blocks, links

from xql_jax.losses.gumbel import clip_above, gumbel_rescaled_loss

LANGUAGES = {"sh", "python", "yaml", "text", "bibtex", "console"}
# Pages whose Python has tests of its own, which run it and look at what it does.
RUN_BY = {
    "CONTRIBUTING.md": "tests/test_contributing.py",
    "docs/online.md": "tests/envs/test_compiled.py",
    "docs/data.md": "tests/data/test_readers.py",
    "docs/evaluate.md": "tests/runs/test_export.py",
    "docs/python.md": "tests/test_python_interface.py",
    "docs/robot.md": "tests/test_robot_page.py",
    "docs/theory.md": "tests/theory/test_theory_guide.py",
}
RUN_HERE = [page for page in PAGES if page not in RUN_BY and blocks(page, "python")]
ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_are_there(page):
    lost = []
    for link in links(page):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        is_there = target.exists() and target.is_relative_to(ROOT)
        if not is_there or (anchor and anchor not in anchors(target.relative_to(ROOT).as_posix())):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("block", ALL_BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_says_its_language_and_can_be_parsed(block):
    assert block.language in LANGUAGES, "a block without a language is tried by no test"
    if block.language == "python":
        ast.parse(block.code)
    if block.language == "yaml":
        yaml.safe_load(block.code)
    if block.language == "sh":
        parsed = subprocess.run(
            [shutil.which("bash"), "-n"], input=block.code, capture_output=True, text=True, timeout=20
        )
        assert (parsed.returncode, parsed.stderr) == (0, "")


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page == "README.md" else page for page in RUN_HERE]
)
def test_a_page_s_python_runs_from_its_first_block_to_its_last(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {}
    for block in blocks(page, "python"):
        if not block.reason:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", category=DeprecationWarning)  # of packages among themselves
                exec(compile("\n" * block.line + block.code, page, "exec"), space)


def test_readme_s_loss_is_the_default_of_d4rl_s_tasks():
    loss, *_ = blocks("README.md", "python")
    space = {}
    exec(loss.code, space)
    v, q = np.linspace(-3, 3, 7, dtype=np.float32), np.linspace(4, -5, 7, dtype=np.float32)
    terms = gumbel_rescaled_loss(v, q, beta=1.5, clip=2.0, clip_rule=clip_above)
    np.testing.assert_allclose(space["gumbel_rescaled_loss"](v, q, 1.5, 2.0), terms.mean(), rtol=1e-6)


@pytest.mark.release
@pytest.mark.timeout(3_600)
def test_every_command_runs_as_printed_in_a_bare_clone(tmp_path):
    """Installation included: an empty environment, no dataset and no compiled program are at hand."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    shutil.copy(ROOT / "README.md", clone)
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "PYTEST_ADDOPTS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
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
    assert "done: pointmaze-umaze-v0, xql, 20,000 updates" in run.stdout
    pictures = sorted(path.name for path in clone.glob("results/**/*.png"))
    assert {"maze.png", "learning_curve.png", "figure_2.png"} <= set(pictures)
