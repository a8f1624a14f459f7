"""Online runs in compiled environments by the real main: what they leave, how they go on, mistakes."""

import csv
import json
import shutil

import pytest
from main_runs import EVALUATE, ONLINE, ROOT
from mistakes import ONLINE_ARGUMENTS, TD3, assert_told

pytestmark = pytest.mark.slow

POINT_MASS = ROOT / "tests" / "envs" / "jax_point_mass.py"
ARGUMENTS = (
    TD3, *ONLINE_ARGUMENTS, "--env_name=jax_point_mass:PointMass", "--num_environments=5", "--save_dir=runs",
)  # fmt: skip


def rows(path):
    """Without the times, which differ."""
    with path.open(newline="") as file:
        return [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]


def run_folder(folder):
    (config,) = folder.rglob("config.json")
    return config.parent


@pytest.fixture(scope="module")
def folder(server, tmp_path_factory):
    """Where a run with two seeds has ended, its environment beside it."""
    folder = tmp_path_factory.mktemp("compiled")
    shutil.copy(POINT_MASS, folder)
    outcome = server.run([*ARGUMENTS, "--num_seeds=2"], folder, main=ONLINE)
    assert (outcome.code, outcome.err) == (0, "")
    return folder


def test_a_run_leaves_what_others_do_and_is_evaluated(server, folder):
    finished = run_folder(folder)
    names = {path.name for path in finished.iterdir() if path.name != ".lock"}
    assert names == {
        "config.json", "metrics.csv", "evaluations.csv", "tb", "checkpoints", "replay", "summary.json",
        "learning_curve.png", "learning_curve.svg", "bellman_errors.csv",
    }  # fmt: skip
    assert [row["step"] for row in rows(finished / "metrics.csv")[::2]] == ["50", "100", "150", "200"]
    assert float(rows(finished / "metrics.csv")[-1]["episode/length"]) == 20.0
    summary = json.loads((finished / "summary.json").read_text())
    assert (summary["status"], summary["step"], summary["policy_lag"]) == ("finished", 200, 0)
    assert summary["failed_episodes"] == 0
    output = folder / "evaluation.json"
    arguments = [str(finished), "--episodes=3", f"--output={output}"]
    evaluated = server.run(arguments, folder, main=EVALUATE)
    assert (evaluated.code, evaluated.err) == (0, "")
    environment = json.loads(output.read_text())["environment"]
    assert (environment["simulator"], environment["described_in"]) == (
        "jax", "docs/compiled.md#your-own-environment"
    )  # fmt: skip


def test_a_run_that_lost_its_end_is_made_whole(server, folder, tmp_path):
    """Resumed from a checkpoint in the midst, it writes the rows of the unbroken run."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    finished, broken = run_folder(folder), run_folder(tmp_path)
    (broken / "summary.json").unlink()
    for step in ("150", "200"):
        shutil.rmtree(broken / "checkpoints" / step)
    outcome = server.run([*ARGUMENTS, "--num_seeds=2", "--resume"], tmp_path, main=ONLINE)
    assert (outcome.code, outcome.err) == (0, "")
    assert not list((broken / "checkpoints").glob("damaged*"))
    for name in ("metrics.csv", "evaluations.csv", "bellman_errors.csv"):
        assert rows(broken / name) == rows(finished / name), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env_name=jax_point_mass:Misshapen"], ["reset's observation is float32[2]", "float32[3]"]),
        (["--env_name=jax_point_mass:Point"], ["jax_point_mass registers no such", "episode_limit"]),
        (["--processes"], ["--processes", "jax_point_mass:PointMass"]),
        (["--num_environments=3"], ["multiple of --num_environments=3"]),
        (["--num_environments=50", "--max_policy_lag=40"], ["--max_policy_lag=40", "at least 50"]),
    ],
)
def test_mistake_ends_with_one_line(server, folder, arguments, words):
    assert_told(server.run([*ARGUMENTS, *arguments], folder, main=ONLINE), words)
    assert len(list(folder.rglob("config.json"))) == 1


def test_a_video_needs_pictures(server, folder):
    arguments = [str(run_folder(folder)), "--episodes=1", "--video=policy.mp4"]
    outcome = server.run(arguments, folder, main=EVALUATE)
    assert outcome.code == 2
    assert "no pictures: the environment has no method `render`" in outcome.err


def test_a_task_of_playground(server, tmp_path):
    pytest.importorskip("mujoco_playground", reason="the extra `compiled` is not installed")
    task = ["--env_name=playground:CartpoleBalance", "--num_environments=10", "--max_steps=400"]
    outcome = server.run([*ARGUMENTS, *task], tmp_path, main=ONLINE)
    assert (outcome.code, outcome.err) == (0, "")
    finished = run_folder(tmp_path)
    assert finished.parents[1].name == "playground:CartpoleBalance"
    assert [row["step"] for row in rows(finished / "evaluations.csv")] == ["100", "200", "300", "400"]
    scores = [float(row["score"]) for row in rows(finished / "evaluations.csv")]
    assert all(10.0 < score <= 100.0 for score in scores)  # a pole that is let fall pays something
    evaluated = server.run([str(finished), "--episodes=2"], tmp_path, main=EVALUATE)
    assert (evaluated.code, evaluated.err) == (0, "")
    assert "2 episodes of td3, 400 steps" in evaluated.out
