"""experiments/choose.py: what it prints of a run is what it writes."""

import csv
import re

import numpy as np
import pytest
from main_runs import CHOOSE, run_folder, run_main, write_dataset


@pytest.mark.slow
def test_members_settings_and_how_well_each_statistic_orders_them(tmp_path):
    data = write_dataset(tmp_path / "maze.npz")
    trained = run_main((
        f"--dataset={data}", f"--save_dir={tmp_path}", "--config.hidden_dims=(8,)", "--max_steps=4",
        "--env_name=pointmaze-umaze-v0", "--eval_episodes=1", "--num_seeds=3", "--sweep=beta=1,2", "--notqdm",
    ))  # fmt: skip
    assert (trained.code, trained.err) == (0, "")
    options = ("--max_steps=200", "--tau=0.5", "--hidden_dims=8", "--notqdm", "--output=choice.csv")
    outcome = run_main([run_folder(tmp_path) / "checkpoints" / "4", *options], tmp_path, CHOOSE)
    assert (outcome.code, outcome.err) == (0, "")
    with (tmp_path / "choice.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = outcome.out.splitlines()
    (head,) = (number for number, line in enumerate(lines) if line.startswith("member"))
    titles = ["member", "index", "FQE value", "own V", "own Q", "Q - V", "TD error", "FQE error", "score"]
    assert re.split(r"\s{2,}", lines[head].strip()) == titles
    assert len(rows) == 6
    for row, line in zip(rows, lines[head + 1 :], strict=False):
        assert line.startswith(f"{row['member']} ")
        shown = [float(cell) for cell in re.split(r"\s{2,}", line.strip())[2:]]
        names = [name for name in row if name not in ("index", "member", "seed", "beta", "diverged")]
        np.testing.assert_allclose(shown, [float(row[name]) for name in names], rtol=1e-3)
    (head,) = (number for number, line in enumerate(lines) if line.startswith("setting "))
    assert {line.split()[0] for line in lines[head + 1 : head + 3]} == {"beta=1", "beta=2"}
    assert sum(line.startswith("FQE value, most first ") for line in lines) == 2  # of members; of settings
    assert sum(line.startswith("TD error, least first ") for line in lines) == 2
    assert lines[-1] == "results: choice.csv"
