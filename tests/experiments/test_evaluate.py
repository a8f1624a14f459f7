"""experiments/evaluate.py against what training wrote down, and the random policy against the references."""

import csv
import dataclasses
import json
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from main_runs import ROOT, ForkServer, contents, write_dataset

from xql_jax.envs.fidelity import describe_environment
from xql_jax.tasks import get_task
from xql_jax.training.loop import EVALUATION_SEED

EVALUATE = ROOT / "experiments" / "evaluate.py"
TASK = get_task("pointmaze-umaze-v0")
EPISODES = 6
pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Place:
    server: ForkServer
    run: Path  # of two seeds and two betas, with checkpoints after 20 and 40 updates

    def evaluate(self, *arguments):
        outcome = self.server.run([*map(str, arguments), "--notqdm"], main=EVALUATE)
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    server = ForkServer(tmp_path_factory.mktemp("streams"))
    arguments = [
        f"--env_name={TASK.name}", f"--dataset={write_dataset(folder / 'maze.npz')}", f"--save_dir={folder}",
        "--config.hidden_dims=(8,)", "--num_seeds=2", "--sweep=beta=0.3,0.5", "--max_steps=40",
        "--eval_interval=20", "--checkpoint_interval=20", f"--eval_episodes={EPISODES}", "--notqdm",
    ]  # fmt: skip
    assert server.run(arguments).code == 0
    (config,) = folder.rglob("config.json")
    yield Place(server, config.parent)
    server.close()


def evaluations(run, step):
    with (run / "evaluations.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["step"] == str(step)]


@pytest.mark.parametrize(("path", "step"), [(".", 40), ("checkpoints", 40), ("checkpoints/20", 20)])
def test_the_same_episodes_give_what_training_wrote(place, tmp_path, path, step):
    before = contents(place.run)
    place.evaluate(
        place.run / path,
        f"--seed={EVALUATION_SEED}",
        f"--episodes={EPISODES}",
        f"--output={tmp_path / 'new' / 'results.json'}",
    )
    report = json.loads((tmp_path / "new" / "results.json").read_text())
    expected = evaluations(place.run, step)
    assert len(report["members"]) == len(expected) == 4
    for member, row in zip(report["members"], expected, strict=True):
        assert member["member"] == f"seed {row['seed']}, beta={row['beta']}"
        np.testing.assert_allclose(member["return_mean"], float(row["return"]), rtol=1e-6)
        np.testing.assert_allclose(member["score_mean"], float(row["score"]), rtol=1e-6)
        np.testing.assert_allclose(member["length_mean"], float(row["length"]))
    assert report["environment"] == describe_environment(TASK, "mujoco", False)
    assert contents(place.run) == before


def test_the_environment_is_that_of_the_run(place, tmp_path):
    generator = np.random.default_rng(0)
    observations, actions = generator.standard_normal((120, 11)), generator.uniform(-1, 1, (120, 3))
    dataset = write_dataset(
        tmp_path / "hopper.npz", observations=observations, actions=actions, rewards=generator.random(120)
    )
    arguments = (
        f"--config={ROOT / 'configs' / 'mujoco_config.py'}:bc", "--env_name=hopper-medium-v2",
        f"--dataset={dataset}", f"--save_dir={tmp_path}", "--config.hidden_dims=(8,)", "--max_steps=2",
        "--eval_episodes=5", "--legacy_inertia", "--notqdm",
    )  # fmt: skip
    assert place.server.run(arguments).code == 0
    (config,) = tmp_path.rglob("config.json")
    returns = []
    for number, flag in enumerate(("--legacy_inertia", "--nolegacy_inertia", "--notqdm")):
        output = tmp_path / f"{number}.json"
        place.evaluate(config.parent, f"--seed={EVALUATION_SEED}", "--episodes=5", f"--output={output}", flag)
        report = json.loads(output.read_text())
        assert report["environment"]["legacy_inertia"] == (flag != "--nolegacy_inertia")
        returns.append(report["members"][0]["return_mean"])
    (row,) = evaluations(config.parent, 2)
    assert returns[0] == returns[2] != returns[1]
    np.testing.assert_allclose(returns[2], float(row["return"]), rtol=1e-6)


def test_one_member_alone(place, tmp_path):
    arguments = (place.run, f"--seed={EVALUATION_SEED}", f"--episodes={EPISODES}", "--member=2")
    out = place.evaluate(*arguments, f"--output={tmp_path / 'results.json'}")
    (member,) = json.loads((tmp_path / "results.json").read_text())["members"]
    row = evaluations(place.run, 40)[2]
    assert member["member"] == f"seed {row['seed']}, beta={row['beta']}"
    np.testing.assert_allclose(member["score_mean"], float(row["score"]), rtol=1e-6)
    assert f"score {float(row['score']):.1f}" in out
    assert "members" not in out


def test_how_many_environments_there_are_changes_nothing(place, tmp_path):
    reports = []
    for count in (4, 8, 24):
        file = tmp_path / f"{count}.json"
        place.evaluate(place.run, "--episodes=7", f"--num_environments={count}", f"--output={file}")
        reports.append(json.loads(file.read_text())["members"])
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.draws
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_video_shows_the_evaluated_episodes(place, tmp_path, suffix):
    video, results = tmp_path / f"policy{suffix}", tmp_path / "results.json"
    place.evaluate(
        place.run,
        "--member=0",
        "--episodes=2",
        f"--video={video}",
        "--video_episodes=2",
        f"--output={results}",
    )
    report = json.loads(results.read_text())
    np.testing.assert_allclose(
        np.mean(report["video_returns"]), report["members"][0]["return_mean"], rtol=1e-6
    )
    reader = imageio.get_reader(video)
    frames = [np.asarray(frame, float)[..., :3] for frame in reader]
    # Two episodes of 300 steps: a start each, and every second of 100 states a second.
    assert len(frames) == 2 * 151
    assert frames[0].shape == (480, 640, 3)
    duration = reader.get_meta_data().get("duration")
    assert duration == pytest.approx(302 / 50, abs=0.1) if suffix == ".mp4" else duration == 20  # ms a frame
    moved = [np.abs(after - before).max() for before, after in zip(frames, frames[10:], strict=False)]
    assert np.median(moved) > 30  # the ball goes somewhere
    assert list(tmp_path.iterdir()) == [video, results] or set(tmp_path.iterdir()) == {video, results}


def test_the_random_policy_is_random(place, tmp_path):
    place.evaluate(
        "--random_policy",
        "--env_name=maze2d-umaze-v1",
        "--episodes=100",
        f"--output={tmp_path / 'results.json'}",
    )
    (member,) = json.loads((tmp_path / "results.json").read_text())["members"]
    assert member["member"] == "random"
    # D4RL's reference minimum, within the standard error of 100 episodes (a half-width is 1.98 of those).
    standard_error = member["score_interval_95"] / 1.984
    assert abs(member["score_mean"]) < standard_error
    assert 0.1 < member["success_rate"] < 0.4
