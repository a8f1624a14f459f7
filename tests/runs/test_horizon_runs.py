"""Runs over several steps: as data alone tell, resumed, fine-tuned, exported, collected from, and refused."""

import json

import h5py
import jax
import numpy as np
import pytest
from tiny_runs import (
    assert_same_bits,
    finetune_settings,
    offline_settings,
    small,
    states_of,
)

import xql_jax
from xql_jax.errors import UserError
from xql_jax.learners.registry import make_learner
from xql_jax.runs.load import load_run
from xql_jax.runs.resolve import resolved
from xql_jax.runs.train import train_run
from xql_jax.settings import values_of
from xql_jax.workshop.tools.collect import CollectionSettings, collect
from xql_jax.workshop.tools.export import export_policy

CHUNKS = {"action_chunk": 3, "config": small("xql"), "top_returns": 1.0}


@pytest.fixture(scope="module")
def chunked(data, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("chunked"))
    return train_run(offline_settings(data, save_dir=folder, num_seeds=2, **CHUNKS))


def test_one_step_is_the_run_without_the_setting(data, tmp_path):
    """The folder's name, which tells what the numbers depend on, and all bits."""
    runs = [
        train_run(offline_settings(data, save_dir=str(tmp_path / str(index)), **one))
        for index, one in enumerate(({}, {"n_step": 1, "action_chunk": 1}))
    ]
    assert runs[0].path.name == runs[1].path.name
    assert_same_bits(states_of(runs[0], 12), states_of(runs[1], 12))


def test_the_policy_in_python(chunked):
    policy = xql_jax.load_policy(chunked.path, seed=42)
    seen = np.random.default_rng(0).uniform(0.5, 3.5, (4, policy.observation_dim)).astype(np.float32)
    chunks = policy.chunk(seen)
    assert chunks.shape == (4, 3, 2)
    assert policy.chunk(seen[0]).shape == (3, 2)
    policy.begin()
    for step in range(5):  # open loop: what is seen on the way changes nothing
        np.testing.assert_array_equal(policy(seen if step in (0, 3) else -seen), chunks[:, step % 3])
    policy.begin()
    np.testing.assert_array_equal(policy(seen), chunks[:, 0])
    np.testing.assert_array_equal(policy.q(seen, chunks), policy.q(seen, chunks.reshape(4, -1)))
    np.testing.assert_allclose(policy.q(seen[1], chunks[1]), policy.q(seen, chunks)[1], atol=1e-5)
    assert policy.action_chunk == 3
    policy.begin()
    assert policy(np.zeros((0, policy.observation_dim))).shape == (0, 2)
    drawn = policy.chunk(seen, key=1)
    np.testing.assert_array_equal(drawn, policy.chunk(seen, key=1))
    assert not np.array_equal(drawn, chunks)
    with pytest.raises(UserError, match=r"policy\.chunk draws them"):
        policy(seen, key=1)


def test_exports_give_the_whole_chunk(chunked, tmp_path):
    policy = xql_jax.load_policy(chunked.path, seed=42)
    report = export_policy(
        checkpoint=str(chunked.path), member=0, formats=("jax", "npz"), output=str(tmp_path)
    )
    assert report["action_chunk"] == 3
    assert report["actions"].startswith("float32[B, 6]")
    call = jax.export.deserialize(bytearray((tmp_path / "policy.jax").read_bytes())).call
    seen = np.random.default_rng(0).uniform(0.5, 3.5, (4, policy.observation_dim)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(call(seen)).reshape(4, 3, 2), policy.chunk(seen), atol=1e-6)
    assert json.loads((tmp_path / "policy.json").read_text())["action_chunk"] == 3


def test_collected_episodes_carry_out_chunks(chunked, tmp_path):
    """The deterministic policy's actions within a chunk follow from what it saw at the chunk's start."""
    file, source = tmp_path / "rows.hdf5", {"policy": str(chunked.path), "member": 0, "deterministic": True}
    collect(CollectionSettings(env_name="pointmaze-umaze-v0", output=str(file), transitions=40, **source))
    policy = xql_jax.load_policy(chunked.path, seed=42)
    with h5py.File(file) as rows:
        observations, actions = rows["observations"][()], rows["actions"][()]
    for start in (0, 3, 30):
        np.testing.assert_allclose(actions[start : start + 3], policy.chunk(observations[start]), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"action_chunk": 3, "n_step": 2}, "leave out --n_step"),
        ({"action_chunk": 3, "config": small("dt")}, "dt cannot learn over several steps"),
        ({"n_step": 3, "config": small("rebrac")}, "rebrac cannot learn over several steps"),
        ({"n_step": 3, "config": small("xql"), "sweep": "discount=0.9,0.99"}, "discount: --n_step sums"),
        ({"action_chunk": 41}, "its trajectories have up to"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(data, tmp_path, settings, words):
    with pytest.raises(UserError, match=words):
        train_run(offline_settings(data, save_dir=str(tmp_path), top_returns=1.0, **settings))


def locks(episodes, seed):
    """Episodes of three steps. The first state shows a code of three signs, later ones only the step."""
    generator = np.random.default_rng(seed)
    codes = generator.choice([-1.0, 1.0], (episodes, 3))
    actions = generator.choice([-0.9, 0.9], (episodes, 3))
    states = np.zeros((episodes, 4, 4))
    states[:, 0, :3] = codes
    states[:, :, 3] = np.arange(4)
    opened = (np.sign(actions) == codes).all(1)
    rewards = np.zeros((episodes, 3))
    rewards[:, 2] = opened
    return {
        "observations": states[:, :3].reshape(-1, 4),
        "next_observations": states[:, 1:].reshape(-1, 4),
        "actions": actions.reshape(-1, 1),
        "rewards": rewards.reshape(-1),
        "terminals": np.tile([False, False, True], episodes),
    }


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_lock_that_only_a_chunk_opens(chunk):
    """Random actions open one lock in eight. Seeing the code only at first, single actions open one in four.

    That is the most for a policy of the present state: the first action right, the others by chance.
    """
    arrays = {name: np.asarray(values, np.float32) for name, values in locks(3_000, 0).items()}
    policy = xql_jax.train(
        dataset={**arrays, "terminals": arrays["terminals"] > 0}, action_chunk=chunk, max_steps=1_500,
        hidden_dims=(32, 32), beta=0.1, awr_temperature=10.0, batch_size=128, progress=False,
    )  # fmt: skip
    codes = np.array([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)])
    actions = []
    policy.begin()
    for step in range(3):
        seen = np.zeros((8, 4), np.float32)
        seen[:, :3] = codes if step == 0 else 0.0
        seen[:, 3] = step
        actions.append(policy(seen)[:, 0])
    opened = (np.sign(np.stack(actions, 1)) == codes).all(1)
    assert opened.sum() == 8 if chunk == 3 else opened.sum() <= 2


@pytest.fixture(scope="module")
def ramped_run(data, tmp_path_factory):
    settings = {"ramp": "beta=2:0.5@0.5", "config": small("xql"), "top_returns": 1.0}
    return train_run(offline_settings(data, save_dir=str(tmp_path_factory.mktemp("ramped")), **settings))


@pytest.mark.parametrize(("step", "beta"), [(6, 0.5), (12, 0.5)])
def test_a_saved_run_has_its_ramps_value_at_its_step(ramped_run, step, beta):
    assert values_of(load_run(ramped_run.path, step).learner)["beta"] == beta


def test_a_saved_run_has_the_values_of_its_steps_after_the_hand_over(data, tmp_path):
    """Six updates with the config's values, then beta falls from 4 to 1 in twelve steps."""
    changes = "beta=4:1 discount=0.5"
    run = load_run(train_run(finetune_settings(data, online=changes, save_dir=str(tmp_path))).path)
    found = {}
    for step in run.steps:
        values = values_of(load_run(run.path, step).learner)
        found[step] = values["beta"], values["discount"]
    own = values_of(make_learner("xql"))
    assert found[6] == (own["beta"], own["discount"])
    assert found[12] == (2.5, 0.5)
    assert found[18] == (1.0, 0.5)


def test_a_value_that_no_update_would_see_is_refused(data):
    """In fine-tuning the given value is the offline phase's, if there is one."""
    given = {"config": small("xql", beta=1.0), "given": frozenset({"beta"})}
    with pytest.raises(UserError, match="--beta: --ramp sets beta from the first update on"):
        resolved(offline_settings(data, ramp="beta=2:0.5", **given))
    given["given"] |= {"online", "num_pretraining_steps"}
    with pytest.raises(UserError, match="--beta: --online sets beta from the first update on"):
        resolved(finetune_settings(data, online="beta=5:2", num_pretraining_steps=0, **given))
    made = resolved(finetune_settings(data, online="beta=5:2", **given))
    assert (made.learner.value.beta, made.ramps[0].values) == (1.0, (5.0, 2.0))


def test_fine_tuning_goes_on_with_the_ramps_last_value(data, ramped_run, tmp_path):
    checkpoint = str(ramped_run.path)
    assert resolved(finetune_settings(data, checkpoint=checkpoint)).learner.value.beta == 0.5
