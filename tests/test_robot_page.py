"""docs/robot.md as a reader types it, from the environment to the LaTeX table, with fewer updates."""

import csv
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from driver import EXPERIMENTS, run_main
from guides import ROOT, blocks

PAGE = "docs/robot.md"
INSTALLED = dict(re.findall(r'"(xql-[\w-]+)": "(\w+)"', (ROOT / "setup.py").read_text("utf-8")))
FEW = {"train_offline": 20, "train_finetune": 20, "choose": 20}  # updates


def with_run(text):
    """RUN becomes the method's first run; to choose, its last, which is the sweep."""
    path = re.search(r"results/\S+?/RUN", text)
    if path is None:
        return text
    runs = sorted(Path(path[0]).parent.iterdir(), key=lambda run: os.path.getmtime(run / "config.json"))
    return text.replace(path[0], str(runs[-1 if text.startswith("xql-choose") else 0]))


def typed(line):
    """What the command prints, on both streams."""
    command, *arguments = shlex.split(with_run(line))
    name = INSTALLED[command]
    fewer = [f"--max_steps={FEW[name]}"] if name in FEW else []
    outcome = run_main([*arguments, *fewer], Path.cwd(), EXPERIMENTS / f"{name}.py")
    assert outcome.code == 0, f"{line}\n{outcome.err}"
    return outcome.out + outcome.err


@pytest.mark.slow
def test_the_day_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    environment, *_ = blocks(PAGE, "python")
    Path("reach.py").write_text(environment.code)
    printed = []
    space = {}
    for block in blocks(PAGE, "sh", "python")[1:]:
        if block.language == "python":
            exec(compile(with_run(block.code), PAGE, "exec"), space)
        else:
            printed += [typed(line) for line in block.code.splitlines()]
    logs = np.load("logs.npz")
    assert (logs["terminals"].sum(), logs["timeouts"].sum(), logs["rewards"].sum()) == (60, 200, 60)
    shown, *_ = blocks(PAGE, "text")
    for line in shown.code.splitlines():  # the output that the page shows is the command's
        assert line.removesuffix(" [...]").split("logs.npz: ")[-1] in printed[0]
    assert "nothing to warn of" in printed[1]
    assert np.abs(space["last"]).max() <= 0.05  # the loop's actions are within the robot's bounds
    with open("table/scores.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 4
    assert "xql" in Path("table/scores.tex").read_text()
    sys.modules.pop("reach", None)
