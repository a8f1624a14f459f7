"""experiments/choose.py: what it prints of a run is what it writes."""

import csv

import pytest
from driver import CHOOSE, run_folder, succeed, write_dataset


@pytest.mark.slow
def test_members_and_settings(tmp_path):
    data = write_dataset(tmp_path / "maze.npz")
    succeed((
        f"--dataset={data}", f"--save_dir={tmp_path}", "--config.hidden_dims=(8,)", "--max_steps=4",
        "--env_name=pointmaze-umaze-v0", "--eval_episodes=1", "--num_seeds=3", "--sweep=beta=1,2", "--notqdm",
    ))  # fmt: skip
    options = ("--max_steps=200", "--tau=0.5", "--hidden_dims=8", "--notqdm", "--output=choice.csv")
    outcome = succeed([run_folder(tmp_path) / "checkpoints" / "4", *options], tmp_path, CHOOSE)
    with (tmp_path / "choice.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        [line] = [line for line in outcome.splitlines() if line.startswith(f"{row['member']} ")]
        assert f"{float(row['score']):.4g}" in line.split()
    assert [line.split()[0] for line in outcome.splitlines()].count("setting") == 1
