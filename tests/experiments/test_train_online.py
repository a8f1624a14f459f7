"""Online runs by the real main: what they leave, how they go on, and how mistakes are told."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
from main_runs import EVALUATE, ROOT, run_process

from xql_jax.training.rounds import NUM_ERRORS

MAIN = ROOT / "experiments" / "train_online.py"
TD3 = f"--config={ROOT / 'configs' / 'td3_config.py'}"
SETTINGS = (
    "--env_name=pendulum-swingup", "--config.network=small", "--config.hidden_dims=(8,)",
    "--config.warmup_steps=20", "--config.batch_size=8", "--config.buffer_size=150", "--max_steps=200",
    "--log_interval=50", "--eval_interval=100", "--checkpoint_interval=50", "--eval_episodes=1",
    "--bellman_error_interval=100", "--notqdm",
)  # fmt: skip
pytestmark = pytest.mark.slow


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run_folder(save_dir):
    (config,) = save_dir.rglob("config.json")
    return config.parent


@pytest.mark.parametrize("mode", ["overlapped", "alternating"])
def test_a_run_leaves_what_offline_runs_do_and_is_evaluated(tmp_path, mode):
    outcome = run_process([TD3, *SETTINGS, f"--mode={mode}", "--save_dir=runs"], tmp_path, main=MAIN)
    assert (outcome.code, outcome.err) == (0, "")
    folder = run_folder(tmp_path)
    names = {path.name for path in folder.iterdir() if path.name != ".lock"}
    assert names == {
        "config.json", "metrics.csv", "evaluations.csv", "tb", "checkpoints", "replay", "summary.json",
        "learning_curve.png", "bellman_errors.csv",
    }  # fmt: skip
    errors = [row["step"] for row in rows(folder / "bellman_errors.csv")]
    assert errors == [step for step in ("100", "200") for _ in range(NUM_ERRORS)]
    assert [row["step"] for row in rows(folder / "evaluations.csv")] == ["100", "200"]
    assert [row["step"] for row in rows(folder / "metrics.csv")] == ["50", "100", "150", "200"]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["step"]) == ("finished", 200)
    assert summary["policy_lag"] == {"overlapped": 99, "alternating": 0}[mode]
    evaluated = run_process([str(folder), "--episodes=1"], tmp_path, main=EVALUATE)
    assert (evaluated.code, evaluated.err) == (0, "")
    assert "1 episodes of td3, 200 steps, " in evaluated.out
    again = run_process(
        [TD3, *SETTINGS, f"--mode={mode}", "--save_dir=runs", "--resume"], tmp_path, main=MAIN
    )
    assert "has ended already" in again.out


def test_a_run_that_is_stopped_goes_on(tmp_path):
    command = [sys.executable, str(MAIN), TD3, *SETTINGS, "--max_steps=100000", f"--save_dir={tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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
    with subprocess.Popen([*command, "--resume"], stdout=subprocess.PIPE, text=True) as process:
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
    assert len(list((folder / "replay" / "member0").iterdir())) <= 10


def test_members_have_environments_of_their_own_in_processes(tmp_path):
    xsac = f"--config={ROOT / 'configs' / 'xsac_config.py'}"
    several = ["--num_seeds=2", "--sweep=beta=1,4", "--num_environments=2", "--processes"]
    outcome = run_process(
        [xsac, *SETTINGS, *several, "--on_divergence=restart", "--save_dir=runs"], tmp_path, main=MAIN
    )
    assert (outcome.code, outcome.err) == (0, "")
    folder = run_folder(tmp_path)
    members = [(row["step"], row["seed"], row["beta"]) for row in rows(folder / "evaluations.csv")]
    four = [("0", "1"), ("1", "1"), ("0", "4"), ("1", "4")]
    assert members == [(step, str(42 + int(seed)), beta) for step in ("100", "200") for seed, beta in four]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["restarts"], summary["diverged"]) == ([], [])
    assert len(list((folder / "replay").iterdir())) == 4
    assert {row["episode/return"] for row in rows(folder / "metrics.csv")} == {"nan"}  # of 1,000 steps each


def test_a_damaged_buffer_costs_the_steps_since_the_checkpoint_before(tmp_path):
    arguments = [TD3, *SETTINGS, "--save_dir=runs"]
    assert run_process(arguments, tmp_path, main=MAIN).code == 0
    folder = run_folder(tmp_path)
    before = (folder / "evaluations.csv").read_text()
    (folder / "summary.json").unlink()
    (last,) = (folder / "replay" / "member0").glob("*-0000000200-*.npz")
    last.write_bytes(last.read_bytes()[:-1])
    outcome = run_process([*arguments, "--resume"], tmp_path, main=MAIN)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{last.name}: damaged" in outcome.out
    assert "the checkpoint is now damaged-200, the run goes on from 150" in outcome.out
    assert len(rows(folder / "evaluations.csv")) == 2
    assert (folder / "evaluations.csv").read_text().startswith(before.rsplit("200,", 1)[0])


@pytest.mark.parametrize("other", ["--config.num_critics=3", "--env_name=cartpole-swingup"])
def test_what_another_network_or_environment_left_is_refused(tmp_path, other):
    """Other settings have a folder of their own; this is what was moved by hand."""
    for place, change in (("mine", []), ("others", [other])):
        assert run_process([TD3, *SETTINGS, *change, f"--save_dir={place}"], tmp_path, main=MAIN).code == 0
    mine, others = run_folder(tmp_path / "mine"), run_folder(tmp_path / "others")
    (mine / "summary.json").unlink()
    for name in ("checkpoints", "replay"):
        shutil.rmtree(mine / name)
        shutil.copytree(others / name, mine / name)
    outcome = run_process([TD3, *SETTINGS, "--save_dir=mine", "--resume"], tmp_path, main=MAIN)
    assert outcome.code == 2
    assert outcome.err.startswith("error: checkpoint ")
    assert "written for other states" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env_name=cheetah-runs"], ["'cheetah-runs'", "cheetah-run"]),
        (["--env_name=chetah-run"], ["cheetah-run"]),
        (["--config.network=tiny"], ["config.network", "paper, small", "'tiny'"]),
        (["--config.buffer_size=4"], ["config.buffer_size=4", "config.batch_size=8"]),
        (
            ["--num_environments=3"],
            [
                "--max_steps=200",
                "--log_interval=50",
                "--eval_interval=100",
                "multiple of --num_environments=3",
            ],
        ),
        (["--config.warmup_steps=200"], ["--max_steps=200", "config.warmup_steps=200"]),
        (["--env_name=bullet-hopper-medium-v0"], ["bullet-hopper-medium-v0", "dm_control"]),
        (["--bellman_error_interval=-1"], ["--bellman_error_interval=-1"]),
        (["--num_environments=2", "--bellman_error_interval=15"], ["--bellman_error_interval=15"]),
        (["--mode=both"], ["--mode=both", "overlapped, alternating"]),
        (["--num_environments=50", "--max_policy_lag=1"], ["--max_policy_lag=1", "--mode=alternating"]),
        (["--config.tau=0"], ["config.tau", "within (0, 1]"]),
        (["--config.batch_size=0"], ["config.batch_size", "from 1 to"]),
        (["--config.warmup_steps=-1"], ["config.warmup_steps", "at least 0"]),
        (["--config.updates_per_step=nan"], ["config.updates_per_step", "above 0"]),
        (["--config.buffer_size=10", "--num_environments=50"], ["config.buffer_size=10", "=50"]),
        (["--config.buffer_size=100000000", "--num_seeds=99"], ["config.buffer_size=100000000", "GiB"]),
        (["--config.betta=1"], ["'betta'"]),
        (["--sweep=batch_size=1,2"], ["--sweep", "'batch_size'"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_mistakes_are_told_in_one_line(tmp_path, arguments, words):
    outcome = run_process([TD3, *SETTINGS, "--save_dir=runs", *arguments], tmp_path, main=MAIN)
    assert outcome.code == 2, outcome.err
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    for word in words:
        assert word in outcome.err, (word, outcome.err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (f"--config={ROOT / 'configs' / 'td3_config.py'}:xql", ["'xql'", "train_offline.py", "xtd3_dq"]),
        (f"--config={ROOT / 'configs' / 'pointmaze_config.py'}", ["pointmaze_config.py", "online_config"]),
    ],
)
def test_offline_configs_are_refused(tmp_path, config, words):
    outcome = run_process([config, "--save_dir=runs"], tmp_path, main=MAIN)
    assert outcome.code == 2, outcome.err
    for word in words:
        assert word in outcome.err
