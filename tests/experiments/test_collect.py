"""experiments/collect.py as it is used: bytes, plans, formats, and scores of what is trained on."""

import re

import h5py
import pytest
from driver import COLLECT, EVALUATE, MAIN, ROOT, run_folder, succeed

from xql_jax.data.loading import load_dataset
from xql_jax.data.rows import read_rows, returns_of
from xql_jax.suites.tasks import get_task

MUJOCO = f"--config={ROOT / 'configs' / 'mujoco_config.py'}"
RANDOM = ("--env_name=InvertedPendulum-v5", "--policy=random")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("collect")


@pytest.fixture(scope="module")
def main(folder):
    def run(*arguments, main=COLLECT):
        return succeed([*map(str, arguments), "--notqdm"], folder, main=main)

    return run


@pytest.fixture(scope="module")
def data(main, folder):
    """A file with references."""
    out = main(*RANDOM, "--transitions=300", "--random_return=5", "--expert_return=50", "--output=set.hdf5")
    assert re.search(r"set\.hdf5: 300 transitions, \d+ episodes, \d+ terminal; mean return .*, score ", out)
    return folder / "set.hdf5"


def test_the_same_command_makes_the_same_bytes(main, data, folder):
    main(*RANDOM, "--transitions=300", "--random_return=5", "--expert_return=50", "--output=new/b.hdf5")
    assert (folder / "new" / "b.hdf5").read_bytes() == data.read_bytes()
    main(*RANDOM, "--transitions=300", "--seed=1", "--output=other.hdf5")
    with h5py.File(folder / "other.hdf5") as other, h5py.File(data) as file:
        assert (other["observations"][()] != file["observations"][()]).any()
        assert set(file["metadata"]) - set(other["metadata"]) == {"random_return", "expert_return"}


@pytest.mark.slow
def test_a_run_on_it_is_scored_by_its_references(main, data, folder):
    out = main(
        "--env_name=InvertedPendulum-v5", MUJOCO, "--dataset=set.hdf5", "--save_dir=runs", "--max_steps=4",
        "--log_interval=2", "--eval_interval=4", "--eval_episodes=3", "--config.hidden_dims=(8,)",
        main=MAIN,
    )  # fmt: skip
    path = run_folder(folder)
    random_return = load_dataset(None, [str(data)]).references.random_return
    evaluated = main(path, "--episodes=3", "--seed=10000", main=EVALUATE)
    score = float(re.search(r"score (-?[\d.]+)", evaluated)[1])
    mean = float(re.search(r"return (-?[\d.]+)", evaluated)[1])
    assert score == pytest.approx(100 * (mean - random_return) / (50 - random_return), abs=0.1)
    assert f"last score {score:.1f}" in out


@pytest.mark.slow
def test_random_actions_have_a_score_of_0(main, folder):
    """D4RL's reference minimum, within two standard errors of 100 episodes."""
    main("--env_name=maze2d-umaze-v1", "--policy=random", "--episodes=100", "--output=maze.hdf5")
    returns = returns_of(read_rows(folder / "maze.hdf5")[0])
    scores = get_task("maze2d-umaze-v1").normalized_score(returns)
    assert abs(scores.mean()) < 2 * scores.std(ddof=1) / 10
