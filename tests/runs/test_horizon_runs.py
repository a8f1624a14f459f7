"""Runs over several steps: as data alone tell, resumed, fine-tuned, exported, collected from, and refused."""

import json

import h5py
import jax
import numpy as np
import pytest
from tiny_runs import (
    assert_same_bits,
    assert_same_rows,
    finetune_settings,
    offline_settings,
    online_settings,
    small,
    states_of,
    stopped_at,
)

import xql_jax
from xql_jax.errors import UserError
from xql_jax.runs.load import load_run
from xql_jax.runs.resolve import resolved
from xql_jax.runs.train import train_run
from xql_jax.settings import values_of
from xql_jax.workshop.tools.choose import ChoiceSettings, choose
from xql_jax.workshop.tools.collect import CollectionSettings, collect
from xql_jax.workshop.tools.export import export_policy

CHUNKS = {"action_chunk": 3, "config": small("xql"), "top_returns": 1.0}


@pytest.fixture(scope="module")
def chunked(data, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("chunked"))
    return train_run(offline_settings(data, save_dir=folder, num_seeds=2, **CHUNKS))


@pytest.mark.parametrize("horizon", [{"action_chunk": 3}, {"n_step": 3}])
def test_a_resumed_run_has_the_bits_of_the_unbroken_one(data, tmp_path, horizon, compiled_fully):
    settings = {**CHUNKS, "action_chunk": 1, **horizon, "num_seeds": 2}
    unbroken = train_run(offline_settings(data, save_dir=str(tmp_path / "unbroken"), **settings))
    with stopped_at("update 6: score") as stop:
        train_run(offline_settings(data, save_dir=str(tmp_path), **settings), stop)
    resumed = train_run(offline_settings(data, save_dir=str(tmp_path), resume=True, **settings))
    assert_same_bits(states_of(resumed, 12), states_of(unbroken, 12))
    assert_same_rows(resumed, unbroken)


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


@pytest.mark.parametrize("exported", [False, True])
def test_collected_episodes_carry_out_chunks(chunked, tmp_path, exported):
    """The deterministic policy's actions within a chunk follow from what it saw at the chunk's start."""
    file, source = tmp_path / "rows.hdf5", {"policy": str(chunked.path), "member": 0, "deterministic": True}
    if exported:
        export_policy(checkpoint=str(chunked.path), member=0, formats=("npz",), output=str(tmp_path / "e"))
        source = {"policy": str(tmp_path / "e" / "policy.npz")}
    collect(CollectionSettings(env_name="pointmaze-umaze-v0", output=str(file), transitions=40, **source))
    policy = xql_jax.load_policy(chunked.path, seed=42)
    with h5py.File(file) as rows:
        observations, actions = rows["observations"][()], rows["actions"][()]
    for start in (0, 3, 30):
        np.testing.assert_allclose(actions[start : start + 3], policy.chunk(observations[start]), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [{"action_chunk": 3}, {"n_step": 3}])
def test_fine_tuned_in_two_parts_twice_it_is_the_same(data, tmp_path, horizon):
    finished = []
    for name in ("first", "second"):
        settings = {**horizon, "save_dir": str(tmp_path / name), "warmup_steps": 0}
        with stopped_at("step 12: score") as stop:
            train_run(finetune_settings(data, **settings), stop)
        finished.append(train_run(finetune_settings(data, resume=True, **settings)))
    assert_same_bits(states_of(finished[0], 18), states_of(finished[1], 18))
    assert_same_rows(*finished)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["td3", "xtd3", "sac", "xsac"])
def test_online_methods_act_by_chunks(tmp_path, method):
    config = small(method, batch_size=4, buffer_size=64, warmup_steps=4)
    run = train_run(online_settings(tmp_path, config=config, action_chunk=3, max_steps=24))
    assert xql_jax.load_policy(run.path).chunk(np.zeros(4)).shape == (3, 2)
    assert np.isfinite(run.summary["results"][0]["last_score_by_seed"]).all()


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


def test_a_chunk_of_another_batch_is_refused(chunked):
    policy = xql_jax.load_policy(chunked.path, seed=42)
    policy.begin()
    policy(np.zeros(4))
    with pytest.raises(UserError, match=r"carried out are of 1: call policy\.begin"):
        policy(np.zeros((3, 4)))


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
    config = small("xql")
    assert found[6] == (config.beta, np.float32(config.discount))
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
    made = resolved(finetune_settings(data, checkpoint=checkpoint))
    assert made.learner.value.beta == 0.5


def test_the_part_of_the_data_that_a_fine_tuned_run_had_is_known_again(data, tmp_path, caplog):
    """Its transitions over three steps were made before rows were drawn, and are again."""
    settings = {"save_dir": str(tmp_path), "n_step": 3, "init_dataset_size": 60, "num_seeds": 1}
    run = train_run(finetune_settings(data, **settings))
    with caplog.at_level("INFO"):
        choose(ChoiceSettings(checkpoint=str(run.path), max_steps=3, tqdm=False))
    assert any(line.startswith("60 transitions and") for line in caplog.messages)
    assert not any("not the data" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("settings", "is_told"),
    [
        ({"action_chunk": 2}, True),
        ({"n_step": 2}, True),
        ({"action_chunk": 2, "given": frozenset({"beta"})}, False),
        ({"action_chunk": 2, "ramp": "beta=5:4"}, False),
        ({}, False),
    ],
)
def test_a_beta_for_single_steps_is_told_of(data, tmp_path, caplog, settings, is_told):
    with caplog.at_level("INFO"):
        train_run(offline_settings(data, config=small("xql"), save_dir=str(tmp_path), **settings))
    assert any("give about --beta=4" in line for line in caplog.messages) == is_told
    [line] = [line for line in caplog.messages if line.startswith("settings:")]
    assert f" beta={'5:4' if 'ramp' in settings else '2'} " in line


@pytest.mark.parametrize(("length", "is_told"), [(2, False), (4, True)])
def test_data_whose_terminals_cut_most_chunks_are_told_of(tmp_path, caplog, length, is_told):
    """Episodes of three steps: two thirds of the chunks of two actions are complete, none of four."""
    arrays = {name: np.asarray(values, np.float32) for name, values in locks(20, 0).items()}
    arrays["terminals"] = arrays["terminals"] > 0
    with caplog.at_level("INFO"):
        xql_jax.train(
            dataset=arrays, method="bc", action_chunk=length, max_steps=1, hidden_dims=(4,), batch_size=8,
            progress=True, save_dir=str(tmp_path),
        )  # fmt: skip
    assert any("of the chunks are complete" in line for line in caplog.messages) == is_told
