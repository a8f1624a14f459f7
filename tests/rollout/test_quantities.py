"""A quantity of an evaluation: declared once, it is in all that evaluations write and print.

The environment writes down what it did, which is the oracle.
"""

import csv
import json
import math
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from driver import EVALUATE, REPORT, run_main, succeed
from gymnasium import spaces

import xql_jax
from xql_jax.envs import EnvironmentMaker
from xql_jax.envs.vector import Local
from xql_jax.errors import UserError
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.rollout.quantities import QUANTITIES, EpisodeResults, Quantity, declare, in_info
from xql_jax.rollout.scores import describe_episodes, evaluation_in_words
from xql_jax.suites.tasks import get_task
from xql_jax.workshop.commands.messages import others_in_words

NAME = "test_quantities:Hills-v0"
LARGEST_REWARD = Quantity(name="largest_reward", read=lambda before, step: np.fmax(before, step.rewards))
EFFORT = Quantity(
    name="effort", start=0.0, read=lambda before, step: before + (step.actions.astype(float) ** 2).sum(axis=1)
)
SUMMIT = Quantity(name="summit", label="highest", read=in_info("height", np.fmax), may_lack=True)
LAST_HEIGHT = Quantity(name="last_height", read=in_info("height"), may_lack=True)


class Hills(gymnasium.Env):
    """Two to four steps, by seed, that pay r, 2 r, -r and 3 r, at heights of 10 r, 30 r, 20 r and 0."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    episodes: list = []  # noqa: RUF012 (of all environments, in the order of their starts)
    tells_height = True

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        self.done = {"seed": seed, "rewards": [], "heights": [], "actions": []}
        self.episodes.append(self.done)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        count, size = len(self.done["rewards"]), 1 + self.seed % 5
        self.done["rewards"].append([1.0, 2.0, -1.0, 3.0][count] * size)
        self.done["heights"].append([10.0, 30.0, 20.0, 0.0][count] * size)
        self.done["actions"].append(np.array(action, np.float64))
        info = {"height": np.float32(self.done["heights"][-1])} if self.tells_height else {}
        over = count + 1 == 2 + self.seed % 3
        return np.full(1, count + 1.0, np.float32), self.done["rewards"][-1], over, False, info


gymnasium.register("Hills-v0", entry_point=Hills, max_episode_steps=10)


def numbers_of(episode):
    """The four quantities of an episode, from what the environment wrote down."""
    squares = sum(float(entry) ** 2 for action in episode["actions"] for entry in action)
    return {
        "largest_reward": max(episode["rewards"]),
        "effort": squares,
        "summit": max(episode["heights"]),
        "last_height": episode["heights"][-1],
    }


@pytest.fixture(autouse=True)
def _hills(monkeypatch):
    monkeypatch.setattr(Hills, "episodes", [])
    before = dict(QUANTITIES)
    yield
    QUANTITIES.clear()
    QUANTITIES.update(before)


@pytest.mark.parametrize("at_once", [64, 6, 1])
def test_numbers_of_episodes_by_hand(at_once):
    """However many environments there are, of which some are idle when others are not."""
    for quantity in (LARGEST_REWARD, EFFORT, SUMMIT, LAST_HEIGHT):
        declare(quantity)
    maker = EnvironmentMaker(max_environments=at_once)
    evaluator = Evaluator(get_task(NAME), 2, 9, seed=3, maker=maker, checks_seeds=False)
    Hills.episodes.clear()
    results = evaluator.run(lambda seen: np.stack([np.full((*seen.shape[1:2], 2), a) for a in (0.5, 0.1)]))
    assert len(set(results.lengths[0])) == 3
    by_seed = {}
    for episode in Hills.episodes:
        by_seed.setdefault(episode["seed"], []).append(episode)
    for index, seed in enumerate(evaluator._seeds):
        for member, episode in enumerate(by_seed[seed]):
            for name, number in numbers_of(episode).items():
                assert results.others[name][member, index] == pytest.approx(number, rel=1e-6)
        assert results.others["effort"][0, index] == 0.5 * results.lengths[0, index]  # 2 * 0.5^2 a step
    assert results.means(get_task(NAME))["largest_reward"] == pytest.approx(
        results.others["largest_reward"].mean(axis=1)
    )


def trained(folder, **settings):
    generator = np.random.default_rng(0)
    dataset = {
        "observations": generator.uniform(0, 3, (40, 1)),
        "actions": generator.uniform(-1, 1, (40, 2)),
        "next_observations": generator.uniform(0, 3, (40, 1)),
        "rewards": generator.uniform(-1, 1, 40),
        "terminals": np.ones(40, bool),
    }
    np.savez(folder / "data.npz", **dataset)
    common = {"method": "bc", "hidden_dims": (8,), "batch_size": 8, "eval_interval": 2, "eval_episodes": 4}
    common |= {"num_seeds": 2, "log_interval": 2, "checkpoint_interval": 2, "max_steps": 4, "progress": False}
    common |= {"decay_actor_lr": False}  # so that a run can go on beyond its end
    settings = {"env_name": NAME, **common, **settings}
    return xql_jax.train(dataset=folder / "data.npz", save_dir=folder / "runs", **settings)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_declaration_is_enough(tmp_path):
    """The run's last evaluation, by seed: its four episodes, written down by the environment."""
    for quantity in (LARGEST_REWARD, EFFORT, SUMMIT):
        declare(quantity)
    policy = trained(tmp_path)
    seeds = list(dict.fromkeys(episode["seed"] for episode in Hills.episodes[-8:]))
    last = [[one for one in Hills.episodes[-8:] if one["seed"] == seed] for seed in seeds]  # [E][M]
    expected = [[numbers_of(of_seed[member]) for of_seed in last] for member in (0, 1)]
    names = ("largest_reward", "effort", "summit")

    evaluations = rows_of(policy.path / "evaluations.csv")
    columns = ["return", "score", "length", "success_rate", *names, "diverged_at", "seconds"]
    assert list(evaluations[0])[2:] == columns
    episodes = [row for row in rows_of(policy.path / "episodes.csv") if row["step"] == "4"]
    [result] = policy.summary["results"]
    output = tmp_path / "results.json"
    arguments = [policy.path, f"--env_name={NAME}", "--episodes=4", "--seed=10000", f"--output={output}"]
    printed = succeed([*map(str, arguments), "--notqdm"], main=EVALUATE)
    entries = json.loads(output.read_text())["members"]
    for name in names:
        means = [np.mean([numbers[name] for numbers in of_member]) for of_member in expected]
        for member in (0, 1):
            of_member = [numbers[name] for numbers in expected[member]]
            rows = [row for row in episodes if row["seed"] == str(42 + member)]
            assert [float(row[name]) for row in rows] == pytest.approx(of_member, rel=1e-5)
            assert float(evaluations[-2 + member][name]) == pytest.approx(means[member], rel=1e-5)
            assert entries[member][f"{name}_mean"] == pytest.approx(means[member], rel=1e-5)
            assert entries[member][f"{name}_by_episode"] == pytest.approx(of_member, rel=1e-5)
            label = "highest" if name == "summit" else name
            assert f", {label} {QUANTITIES[name].shown(means[member])}" in printed.splitlines()[1 + member]
        assert result[f"last_{name}"] == pytest.approx(np.mean(means), rel=1e-5)
        half_width = 12.7062 * abs(means[0] - means[1]) / 2  # Student's t for one degree of freedom
        assert result[f"last_{name}_interval_95"] == pytest.approx(half_width, rel=1e-4, abs=1e-6)
        assert result[f"last_{name}_by_seed"] == pytest.approx(means, rel=1e-5)
        spread = QUANTITIES[name].in_words(np.mean(means), half_width)
        assert f"; {spread}" in printed.splitlines()[3]
    words = others_in_words(result)
    assert [line.split(" ")[0] for line in words] == ["largest_reward", "effort", "highest"]

    table = succeed(
        [str(tmp_path / "runs"), "--quantity=effort", f"--output={tmp_path / 'report'}"], main=REPORT
    )
    assert " (effort)" in table
    [row] = rows_of(tmp_path / "report" / "scores.csv")
    assert (row["quantity"], row["last_score"]) == ("effort", f"{result['last_effort']:.6g}")
    outcome = run_main([str(tmp_path / "runs"), "--quantity=efort"], main=REPORT)
    assert outcome.code == 2
    assert "--quantity=efort: no run there has this column" in outcome.err


def test_a_run_from_before_the_quantity_goes_on(tmp_path, caplog):
    """With its columns; and a run with the quantity goes on where it is not declared, with empty cells."""
    kept = trained(tmp_path, max_steps=2).path
    header = (kept / "evaluations.csv").read_text().splitlines()[0]
    declare(EFFORT)
    assert trained(tmp_path, max_steps=4).path == kept
    assert (kept / "evaluations.csv").read_text().splitlines()[0] == header
    assert [row["step"] for row in rows_of(kept / "evaluations.csv")] == ["2", "2", "4", "4"]

    new = trained(tmp_path, max_steps=2, seed=7).path
    del QUANTITIES["effort"]
    assert "no longer measured" not in caplog.text
    assert trained(tmp_path, max_steps=6, seed=7).path == new
    assert caplog.text.count("effort: no longer measured") == 2  # once a file
    cells = [row["effort"] for row in rows_of(new / "evaluations.csv")]
    assert (all(cells[:2]), cells[2:]) == (True, [""] * 4)
    assert xql_jax.load_policy(new, seed=7).summary["results"][0]["last_step"] == 6


def test_what_a_task_lacks(monkeypatch):
    """NaN in every evaluation, so that the columns stay when it comes later; else it is an error."""
    monkeypatch.setattr(Hills, "tells_height", False)
    declare(SUMMIT)
    own, known = get_task(NAME), get_task("pointmaze-umaze-v0")

    def results():
        return Evaluator(own, 1, 2, 0, EnvironmentMaker()).run(lambda seen: np.zeros((*seen.shape[:2], 2)))

    for task in (own, known):
        assert math.isnan(results().means(task)["summit"][0])
        [entry] = describe_episodes(results(), task)
        assert (entry["summit_mean"], entry["summit_by_episode"]) == (None, None)
        assert "highest" not in evaluation_in_words(results().means(task), task)
    declare(Quantity(name="summit", read=in_info("height")))
    with pytest.raises(UserError, match="no episode tells the quantity summit"):
        results()


def test_the_mean_is_of_the_episodes_that_tell():
    """3 of 1 and 5; nothing of the second member."""
    declare(SUMMIT)
    heights = np.array([[1.0, np.nan, 5.0], [np.nan] * 3])
    results = EpisodeResults(np.zeros((2, 3)), np.ones((2, 3), int), None, {"summit": heights})
    np.testing.assert_array_equal(results.means(get_task(NAME))["summit"], [3.0, np.nan])


def test_a_quantity_that_is_computed_from_others():
    """Rewards a step of 2 / 1 and 6 / 2: the mean of 2 and 3, or the mean return by the mean length."""
    by_step = {"compute": lambda task, others: others["return"] / others["length"]}
    declare(Quantity(name="of_episodes", **by_step))
    declare(Quantity(name="of_means", mean=None, **by_step))
    means = EpisodeResults(np.array([[2.0, 6.0]]), np.array([[1, 2]]), None).means(get_task(NAME))
    assert (means["of_episodes"], means["of_means"]) == ([2.5], [4 / 1.5])
    words = evaluation_in_words({"score": [1.0, 3.0], "of_means": [2.0, 5.0]}, get_task("pointmaze-umaze-v0"))
    assert words == "score 2.0 (1.0 to 3.0), of_means 3.5"


def test_environments_that_are_compiled(monkeypatch):
    """They have no `info`; an idle environment adds nothing."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "envs"))
    for quantity in (LARGEST_REWARD, SUMMIT):
        declare(quantity)
    steps, task = [], get_task("jax_point_mass:PointMass")
    evaluator = Evaluator(task, 1, 3, 0, EnvironmentMaker())
    results = evaluator.run(lambda seen: np.full((*seen.shape[:2], 1), 0.3), on_step=steps.append)
    for place, length in enumerate(results.lengths[0]):
        largest = max(step.rewards[place] for step in steps[:length])
        assert results.others["largest_reward"][0, place] == largest
    assert np.isnan(results.others["summit"]).all()


@pytest.mark.parametrize("height", ["high", [1.0, 2.0], 1j])
def test_what_is_no_number(height):
    """Names the environment and the entry."""

    class Wrong(Hills):
        steps_per_second = 1.0

        def step(self, action):
            *outcome, _ = super().step(action)
            return *outcome, {"height": height}

    env = Local(Wrong, 2)
    env.reset([0, 1])
    step = env.step(np.zeros((2, 2)))
    with pytest.raises(UserError, match="environment 0 failed: its height in info must be a number"):
        in_info("height")(np.full(2, np.nan), step)


@pytest.mark.parametrize("name", ["seed", "episode", "my reward", ""])
def test_names_that_columns_have(name):
    with pytest.raises(ValueError, match="must be an identifier"):
        Quantity(name=name, read=lambda before, step: before)
