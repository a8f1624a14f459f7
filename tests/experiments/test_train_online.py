"""Online runs by the real main: what they leave, how they go on, and how mistakes are told."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from main_runs import EVALUATE, ONLINE, ROOT
from mistakes import ONLINE_ARGUMENTS, TD3

from xql_jax.envs import Simulation, describe_environment
from xql_jax.tasks import get_task
from xql_jax.training.rounds import NUM_ERRORS

pytestmark = pytest.mark.slow


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def save_dir(run):
    return run.parents[2]


def run_folder(save_dir):
    (config,) = save_dir.rglob("config.json")
    return config.parent


@pytest.fixture(scope="module")
def main(server):
    """Runs train_online.py with a good run's arguments and others."""

    def run(folder, *arguments, config=TD3):
        return server.run([config, *ONLINE_ARGUMENTS, *arguments], folder, main=ONLINE)

    return run


@pytest.fixture(scope="module")
def finished(main, tmp_path_factory):
    """The folder of a run that has ended; its --save_dir is `runs`, three folders up."""
    folder = tmp_path_factory.mktemp("online")
    outcome = main(folder, "--save_dir=runs")
    assert (outcome.code, outcome.err) == (0, "")
    return run_folder(folder)


def test_a_run_leaves_what_offline_runs_do_and_is_evaluated(server, main, finished):
    names = {path.name for path in finished.iterdir() if path.name != ".lock"}
    assert names == {
        "config.json", "metrics.csv", "evaluations.csv", "tb", "checkpoints", "replay", "summary.json",
        "learning_curve.png", "learning_curve.svg", "bellman_errors.csv",
    }  # fmt: skip
    errors = [row["step"] for row in rows(finished / "bellman_errors.csv")]
    assert errors == [step for step in ("100", "200") for _ in range(NUM_ERRORS)]
    assert [row["step"] for row in rows(finished / "evaluations.csv")] == ["100", "200"]
    assert [row["step"] for row in rows(finished / "metrics.csv")] == ["50", "100", "150", "200"]
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("finished", 200)
    assert summary["policy_lag"] == 99
    assert summary["environment"] == describe_environment(get_task("pendulum-swingup"), Simulation())
    evaluated = server.run([str(finished), "--episodes=1"], main=EVALUATE)
    assert (evaluated.code, evaluated.err) == (0, "")
    assert "1 episodes of td3, 200 steps, " in evaluated.out
    again = main(save_dir(finished).parent, "--save_dir=runs", "--resume")
    assert "has ended already" in again.out


def test_a_run_that_is_stopped_goes_on(tmp_path):
    command = [
        sys.executable,
        str(ONLINE),
        TD3,
        *ONLINE_ARGUMENTS,
        "--max_steps=100000",
        f"--save_dir={tmp_path}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("checkpoints/100")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; go on with --resume" in out
    folder = run_folder(tmp_path)
    steps = sorted(int(path.name) for path in (folder / "checkpoints").iterdir())
    before = rows(folder / "metrics.csv")
    command.append("--resume")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        while not list(tmp_path.rglob(f"checkpoints/{steps[-1] + 200}")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    after = rows(folder / "metrics.csv")
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert [int(row["step"]) for row in after] == list(range(50, 50 * len(after) + 1, 50))
    # Files that no checkpoint needs are gone: of a ring of 150, those of the last few hundred steps are left.
    assert len(list((folder / "replay" / "seed42").iterdir())) <= 10


def test_members_have_environments_of_their_own_in_processes(main, tmp_path):
    xsac = f"--config={ROOT / 'configs' / 'xsac_config.py'}"
    several = ["--num_seeds=2", "--sweep=beta=1,4", "--num_environments=2", "--processes"]
    outcome = main(tmp_path, *several, "--on_divergence=restart", "--save_dir=runs", config=xsac)
    assert (outcome.code, outcome.err) == (0, "")
    folder = run_folder(tmp_path)
    members = [(row["step"], row["seed"], row["beta"]) for row in rows(folder / "evaluations.csv")]
    four = [("0", "1"), ("1", "1"), ("0", "4"), ("1", "4")]
    assert members == [(step, str(42 + int(seed)), beta) for step in ("100", "200") for seed, beta in four]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["restarts"], summary["diverged"]) == ([], [])
    assert len(list((folder / "replay").iterdir())) == 4
    assert {row["episode/return"] for row in rows(folder / "metrics.csv")} == {"nan"}  # of 1,000 steps each


def test_a_damaged_buffer_costs_the_steps_since_the_checkpoint_before(main, finished, tmp_path):
    shutil.copytree(save_dir(finished), tmp_path / "runs")
    folder = run_folder(tmp_path)
    before = (folder / "evaluations.csv").read_text()
    (folder / "summary.json").unlink()
    (last,) = (folder / "replay" / "seed42").glob("*-0000000200-*.npz")
    last.write_bytes(last.read_bytes()[:-1])
    outcome = main(tmp_path, "--save_dir=runs", "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{last.name}: damaged" in outcome.out
    assert "the checkpoint is now damaged-200, the run goes on from 150" in outcome.out
    assert len(rows(folder / "evaluations.csv")) == 2
    assert (folder / "evaluations.csv").read_text().startswith(before.rsplit("200,", 1)[0])


@pytest.mark.parametrize("other", ["--config.num_critics=3", "--env_name=cartpole-swingup"])
def test_what_another_network_or_environment_left_is_refused(main, finished, tmp_path, other):
    """Other settings have a folder of their own; this is what was moved by hand."""
    shutil.copytree(save_dir(finished), tmp_path / "mine")
    assert main(tmp_path, other, "--save_dir=others").code == 0
    mine, others = run_folder(tmp_path / "mine"), run_folder(tmp_path / "others")
    (mine / "summary.json").unlink()
    for name in ("checkpoints", "replay"):
        shutil.rmtree(mine / name)
        shutil.copytree(others / name, mine / name)
    outcome = main(tmp_path, "--save_dir=mine", "--resume")
    assert outcome.code == 2
    assert outcome.err.startswith("error: checkpoint ")
    assert "it is of another run" in outcome.err
    assert outcome.err.count("\n") == 1
