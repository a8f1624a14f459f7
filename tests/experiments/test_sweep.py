"""Sweeps and the paper's tables at the command line, and the file that may give a sweep's flags."""

import json
from pathlib import Path

import pytest
from driver import EXPERIMENTS, contents, run_main, succeed, write_dataset
from mistakes import SWEEP_ARGUMENTS, assert_told

SWEEP, REPRODUCE = EXPERIMENTS / "sweep.py", EXPERIMENTS / "reproduce.py"
TINY = ":hidden_dims=8:batch_size=8"
WRITTEN = ("--save_dir=runs", "--output=tables")
pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path / "good.hdf5")
    return tmp_path


def tables(folder, name):
    kinds = ("csv", "md", "tex", "txt")
    return {kind: (folder / "tables" / f"{name}.{kind}").read_text() for kind in kinds}


def test_a_file_gives_flags_and_the_command_line_wins(folder):
    text = (
        f"datasets: [pointmaze-umaze-v0=good.hdf5]\nmethods: [bc{TINY}, iql{TINY}]\n"
        "sweep: {expectile: [0.7, 0.9], critic_loss: [mse, huber]}\n"
        "num_seeds: 5\nmax_steps: 4\neval_interval: 2\neval_episodes: 1\n"
    )
    (folder / "sweep.yaml").write_text(text)
    planned = run_main(["sweep.yaml", "--num_seeds=2", *WRITTEN, "--dry_run"], folder, SWEEP)
    assert "3 to do:" in planned.out
    assert "critic_loss=huber expectile=0.7,0.9 seeds 0 to 1: to do, 16 updates" in planned.out
    assert not {"runs", "tables"} & {path.name for path in folder.iterdir()}

    succeed(["--num_seeds=2", "sweep.yaml", "--name=mine", *WRITTEN], folder, SWEEP)
    tables(folder, "mine")
    summaries = [json.loads(path.read_text()) for path in (folder / "runs").rglob("summary.json")]
    assert [summary["status"] for summary in summaries] == ["finished"] * 3


def test_what_fails_is_told_at_the_end_and_the_rest_is_trained(folder):
    assert run_main([*SWEEP_ARGUMENTS, *WRITTEN], folder, SWEEP).code == 0
    [run] = (folder / "runs").rglob("summary.json")
    run.unlink()
    for manifest in run.parent.rglob("checkpoint.json"):
        manifest.write_text("{}")
    outcome = run_main([*SWEEP_ARGUMENTS, f"--methods=bc{TINY},iql{TINY}", *WRITTEN], folder, SWEEP)
    assert_told(outcome, ["1 of 2 failed", "the first: pointmaze-umaze-v0=good.hdf5 bc", "damaged"])
    assert "last score" in outcome.out


def test_a_table_is_written_beside_the_papers_scores_and_nothing_is_trained_twice(folder):
    data = "--datasets=pointmaze-umaze-v0=good.hdf5,hopper-medium-v2"
    table = [*SWEEP_ARGUMENTS[2:], data, f"--methods=bc,iql{TINY}", *WRITTEN, "--table=1"]

    def run(*arguments):
        return succeed([*table, *arguments], folder, REPRODUCE, D4RL_DATASET_DIR=str(folder / "d4rl"))

    planned = run("--dry_run")
    assert "2 to do, 2 no data:" in planned
    assert not (folder / "runs").exists()
    out, written = run(), tables(folder, "table_1")
    assert written["txt"] in out
    assert "52.9" in written["md"]  # the paper's score of BC on hopper-medium-v2
    before = contents(Path(folder / "runs"))
    again = run()
    assert "2 finished, 2 no data:" in again
    assert contents(folder / "runs") == before
