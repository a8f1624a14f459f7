"""experiments/evaluate.py against what training wrote down, and the random policy against the references."""

import csv
import json

import numpy as np
import pytest
from driver import EVALUATE, ROOT, contents, run_folder, succeed, write_dataset

from xql_jax.envs import versions_of
from xql_jax.runs.kinds import EVALUATION_SEED
from xql_jax.suites.tasks import get_task

pytestmark = pytest.mark.slow

TASK = get_task("hopper-medium-v2")
EPISODES = 6


def evaluate(*arguments):
    return succeed([*map(str, arguments), "--notqdm"], main=EVALUATE)


def report_of(run, folder, *arguments):
    """What --output holds of the episodes of training's evaluations."""
    file = folder / "results.json"
    episodes = (f"--seed={EVALUATION_SEED}", f"--episodes={EPISODES}")
    evaluate(run, *episodes, f"--output={file}", *arguments)
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two seeds and two betas, with checkpoints after 20 and 40 updates."""
    folder = tmp_path_factory.mktemp("evaluate")
    generator = np.random.default_rng(0)
    observations, actions = generator.standard_normal((120, 11)), generator.uniform(-1, 1, (120, 3))
    data = write_dataset(
        folder / "hopper.npz", observations=observations, actions=actions, rewards=generator.random(120)
    )
    arguments = [
        f"--config={ROOT / 'configs' / 'mujoco_config.py'}", f"--env_name={TASK.name}", f"--dataset={data}",
        f"--save_dir={folder}", "--config.hidden_dims=(8,)", "--num_seeds=2", "--sweep=beta=0.3,0.5",
        "--max_steps=40", "--eval_interval=20", "--checkpoint_interval=20", f"--eval_episodes={EPISODES}",
        "--normalize_observations", "--top_returns=0.7", "--notqdm",
    ]  # fmt: skip
    succeed(arguments)
    return run_folder(folder)


def evaluations(run, step):
    with (run / "evaluations.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["step"] == str(step)]


def returns(report):
    return [member["return_mean"] for member in report["members"]]


@pytest.mark.parametrize(
    ("path", "step", "member"), [(".", 40, None), ("checkpoints/20", 20, None), ("checkpoints", 40, 2)]
)
def test_the_same_episodes_give_what_training_wrote(run, tmp_path, path, step, member):
    before = contents(run)
    expected, chosen = evaluations(run, step), []
    if member is not None:
        expected, chosen = [expected[member]], [f"--member={member}"]
    report = report_of(run / path, tmp_path / "new", *chosen)
    assert len(report["members"]) == len(expected)
    for member, row in zip(report["members"], expected, strict=True):
        assert member["member"] == f"seed {row['seed']}, beta={row['beta']}"
        np.testing.assert_allclose(member["return_mean"], float(row["return"]), rtol=1e-6)
        np.testing.assert_allclose(member["score_mean"], float(row["score"]), rtol=1e-6)
        np.testing.assert_allclose(member["length_mean"], float(row["length"]))
    assert len(set(returns(report))) == len(expected)
    assert report["environment"] == {"versions": versions_of(TASK)}
    assert contents(run) == before
