"""experiments/choose.py: what it prints of a run that was evaluated, and of one that was not."""

import csv
import re

import numpy as np
import pytest
from main_runs import CHOOSE, run_main, write_dataset

SHORT = ("--max_steps=200", "--tau=0.5", "--hidden_dims=8", "--notqdm")


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    """Makes a run of three seeds in a folder of its own, and returns its path."""

    def make(*arguments):
        folder = tmp_path_factory.mktemp("choose")
        data = write_dataset(folder / "maze.npz")
        changes = (
            f"--dataset={data}", f"--save_dir={folder}", "--config.hidden_dims=(8,)", "--max_steps=4",
            "--num_seeds=3", "--notqdm", *arguments,
        )  # fmt: skip
        outcome = run_main(changes)
        assert (outcome.code, outcome.err) == (0, ""), outcome
        (config,) = folder.rglob("config.json")
        return config.parent

    return make


@pytest.mark.slow
def test_members_and_how_well_each_statistic_orders_them(make_run, tmp_path):
    run = make_run("--env_name=pointmaze-umaze-v0", "--eval_episodes=1")
    outcome = run_main([str(run), *SHORT, f"--output={tmp_path / 'choice.csv'}"], main=CHOOSE)
    assert (outcome.code, outcome.err) == (0, "")
    with (tmp_path / "choice.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = outcome.out.splitlines()
    (head,) = (number for number, line in enumerate(lines) if line.startswith("member"))
    titles = ["member", "index", "FQE value", "own V", "own Q", "Q - V", "TD error", "FQE error", "score"]
    assert re.split(r"\s{2,}", lines[head].strip()) == titles
    for row, line in zip(rows, lines[head + 1 :], strict=False):
        assert line.startswith(f"seed {row['seed']} ")
        shown = [float(cell) for cell in re.split(r"\s{2,}", line.strip())[2:]]
        expected = [
            float(row[name]) for name in list(row) if name not in ("index", "member", "seed", "diverged")
        ]
        np.testing.assert_allclose(shown, expected, rtol=1e-3)
    assert any(line.startswith("FQE value, most first ") for line in lines)
    assert any(line.startswith("TD error, least first ") for line in lines)
    assert lines[-1] == f"results: {tmp_path / 'choice.csv'}"


@pytest.mark.slow
def test_without_an_environment(make_run):
    run = make_run("--config.discount=0.9", "--sweep=beta=1,2")
    outcome = run_main([str(run / "checkpoints" / "4"), *SHORT], main=CHOOSE)
    assert (outcome.code, outcome.err) == (0, "")
    assert "the run has no evaluation: nothing to compare with" in outcome.out
    assert "discount 0.9\n" in outcome.out
    assert "score" not in outcome.out
    after = outcome.out[outcome.out.index("\nsetting ") :].splitlines()[2:]
    assert sorted(line.split()[:2] for line in after) == [["beta=1", "3"], ["beta=2", "3"]]
