"""The agent for OGBench's own programs, used as their main.py uses it, is our learner."""

import math
import pickle
import runpy

import flax
import jax
import numpy as np
import pytest
from absl import flags
from driver import ROOT
from ml_collections.config_flags import config_flags

import xql_jax
from xql_jax.data.loading import load_dataset
from xql_jax.data.preprocessing import fit_preprocessing
from xql_jax.data.sampling import sample
from xql_jax.settings import declared, values_of
from xql_jax.training.members import update_keys

FILE = ROOT / "examples" / "ogbench_agent.py"
EXAMPLE = runpy.run_path(str(FILE))
STEPS, SEED, BATCH_SIZE = 100, 7, 16


def config_given(**values):
    """The config that main.py gets from flags --agent.NAME=VALUE."""
    line = ["main.py", *(f"--agent.{name}={value}" for name, value in values.items())]
    parsed = flags.FlagValues()
    config_flags.DEFINE_config_file("agent", str(FILE), lock_config=False, flag_values=parsed, sys_argv=line)
    parsed(line)
    return parsed.agent


def agent_given(arrays, **values):
    config = config_given(batch_size=BATCH_SIZE, hidden_dims="16,16", **values)
    return EXAMPLE["XQLAgent"].create(SEED, arrays["observations"][:1], arrays["actions"][:1], config)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    generator, rows = np.random.default_rng(0), 1_000
    file = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(
        file,
        observations=generator.normal(size=(rows, 4)),
        actions=generator.uniform(-1, 1, (rows, 2)),
        rewards=generator.random(rows),
        next_observations=generator.normal(size=(rows, 4)),
        terminals=np.arange(rows) % 10 == 9,
    )
    dataset = load_dataset(None, [str(file)])
    return str(file), fit_preprocessing(dataset, None).dataset(dataset).batch


@pytest.mark.parametrize(("method", "values"), [("xql", {"beta": 0.5}), ("iql", {"dropout_rate": 0.5})])
def test_its_parameters_are_those_of_our_program(method, values, data, compiled_fully):
    """Dropout draws from the update's key."""
    file, transitions = data
    policy = xql_jax.train(
        dataset=file, method=method, config="ogbench", max_steps=STEPS, seed=SEED, batch_size=BATCH_SIZE,
        hidden_dims=(16, 16), progress=False, **values,
    )  # fmt: skip
    expected = policy.run.states[policy.member.name]

    agent = agent_given(transitions._asdict(), method=method, **values)
    _, key, _, _ = jax.random.split(jax.random.key(SEED), 4)
    for step in range(STEPS):
        batch = sample(transitions, update_keys(key, step)[0], BATCH_SIZE)
        # Their batches have more arrays, and rewards in float64.
        others = {
            "terminals": 1.0 - np.asarray(batch.masks),
            "rewards": np.asarray(batch.rewards, np.float64),
        }
        agent, metrics = agent.update(jax.tree.map(np.asarray, batch._asdict()) | others)
    assert all(np.isfinite(value) for value in metrics.values())
    jax.tree.map(np.testing.assert_array_equal, agent.state, expected)


def test_it_acts_validates_and_is_restored(data):
    arrays = {name: np.asarray(field[:BATCH_SIZE]) for name, field in data[1]._asdict().items()}
    agent, _ = agent_given(arrays, method="iql").update(arrays)
    observation, key = arrays["observations"][0].astype(np.float64), jax.random.PRNGKey(0)
    centre = agent.sample_actions(observations=observation, seed=key, temperature=0)
    drawn = agent.sample_actions(observations=arrays["observations"], seed=key, temperature=1)
    assert (centre.shape, drawn.shape) == ((2,), (BATCH_SIZE, 2))
    other = agent.sample_actions(observations=observation, seed=jax.random.PRNGKey(1), temperature=0)
    np.testing.assert_array_equal(centre, other)
    assert np.abs(drawn[0] - centre).max() > 1e-3
    assert np.abs(drawn).max() <= 1

    saved = pickle.loads(pickle.dumps(flax.serialization.to_state_dict(agent)))
    restored = flax.serialization.from_state_dict(agent_given(arrays, method="iql", expectile=0.6), saved)
    jax.tree.map(np.testing.assert_array_equal, restored.state, agent.state)
    assert np.isclose(restored.learner.value.expectile, 0.6)  # the flag's, not the file's
    (after, _), (expected, _) = restored.replace(learner=agent.learner).update(arrays), agent.update(arrays)
    jax.tree.map(np.testing.assert_array_equal, after, expected)

    _, metrics = agent.total_loss(arrays, grad_params=None)
    assert metrics.keys() == agent.update(arrays)[1].keys()
    jax.tree.map(np.testing.assert_array_equal, restored.state, agent.state)  # it learns nothing from it


def changed(value, one):
    """Another valid value of a hyperparameter."""
    if one.functions:
        return next(name for name in one.functions if name != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (8, 8)
    if isinstance(value, int):
        return value + 1
    return 0.5 * value if 0 < value < math.inf else 0.25


@pytest.mark.parametrize("method", ["xql", "iql", "xql+flow", "fql"])
def test_every_hyperparameter_reaches_the_learner(method):
    make_learner = EXAMPLE["make_learner"]
    usual = make_learner(config_given(method=method))
    known = {name: one for _, name, one in declared(usual)}
    values = {name: changed(value, known[name]) for name, value in values_of(usual).items()}
    assert values_of(make_learner(config_given(method=method, **values))) == values


def test_a_task_has_its_own_values():
    make_learner = EXAMPLE["make_learner"]
    scene = make_learner(config_given(env_name="scene-play-singletask-v0"))
    assert values_of(scene)["beta"] == 5 * values_of(make_learner(config_given()))["beta"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "rebrac"}, "learns from SarsaBatch"),
        ({"method": "cal_ql"}, "learns from CalibratedBatch"),
        ({"method": "dt"}, "learns from Windows"),
        ({"method": "td3_bc"}, "changes its data"),
        ({"method": "bc10"}, "changes its data"),
        ({"method": "qqql"}, "unknown method"),
        ({"method": "iql", "beta": 1.0}, "no hyperparameter of iql"),
    ],
)
def test_what_it_cannot_do_is_one_line(values, words):
    with pytest.raises(xql_jax.UserError, match=words) as error:
        EXAMPLE["make_learner"](config_given(**values))
    assert "\n" not in str(error.value)
