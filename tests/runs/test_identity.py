"""Two runs have one identity exactly if they have the same numbers: the data, and what was fitted to them."""

import dataclasses

import hypothesis
import jax
import numpy as np
import pytest
from driver import write_dataset
from hypothesis import strategies as st
from python_cases import SMALL
from tiny_runs import finetune_settings, stopped_at

import xql_jax
from xql_jax.data.arrays import Layout, from_arrays
from xql_jax.errors import UserError
from xql_jax.files import digest, read_record, write_record
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.kinds import Offline
from xql_jax.runs.load import PREPROCESSING, load_run
from xql_jax.runs.resolve import resolved, settings_from
from xql_jax.runs.run_data import load_data
from xql_jax.runs.train import train_run
from xql_jax.settings import values_of
from xql_jax.training.members import ramped

FEW = {"max_steps": 4, "eval_episodes": 0, **SMALL}
RAMPS = (
    "beta=2:0.5",
    "beta=2.0:.50",
    "beta=2:0.5@1",
    "beta=2:0.5@0.5",
    "beta=2:0.5@.5:0.5",
    "beta=2",
    "beta=2:2",
)
OTHERS = "", "tau=1e-3", "tau=0.001", "tau=0.002"


def arrays(rewards=1.0, observations=1.0, offset=0.0, last=0.0):
    """Four episodes of five steps; `last` is the last reward of the one with the lowest return."""
    random = np.random.default_rng(0)
    seen = random.integers(-8, 8, (21, 2)) * observations + offset
    given = np.repeat([3.0, 1.0, 2.0, 0.0], 5) + np.arange(20) % 2
    given[-1] = last
    return {
        "observations": seen[:-1].astype(np.float32),
        "next_observations": seen[1:].astype(np.float32),
        "actions": (random.integers(-4, 4, (20, 1)) / 8).astype(np.float32),
        "rewards": (given * rewards).astype(np.float32),
        "terminals": np.arange(20) % 5 == 4,
    }


def run_of(data, save_dir="nowhere", **given):
    """Its settings, its data and its folder; nothing is trained."""
    source = from_arrays(arrays(**data), "arrays", Layout(None))
    given = {"env_name": None, "dataset": (source,), "save_dir": str(save_dir), "max_steps": 4, **given}
    made = resolved(settings_from(choose_config(Offline, **given), given))
    loaded = load_data(made, None)
    return made, loaded, RunFolder(made, loaded)


def numbers_of(settings, data):
    """What the updates and the policy's methods calculate with."""
    preprocessing, view = data.preprocessing, data.dataset
    fitted = [preprocessing.reward_scale, *preprocessing.observation_mean, *preprocessing.observation_std]
    learners = [values_of(ramped(settings.learner, settings.ramps, step)) for step in range(5)]
    leaves = *jax.tree.leaves(view.batch), view.ends, view.begins, np.array(fitted, np.float32)
    return [leaf.tobytes() for leaf in leaves], learners


DATA = st.fixed_dictionaries(
    {
        "rewards": st.sampled_from([1.0, 1024.0, 3.0]),
        "observations": st.sampled_from([1.0, 4.0, 3.0]),
        "offset": st.sampled_from([0.0, 8.0]),
        "last": st.sampled_from([0.0, -1.0]),
    }
)
CHANGES = st.tuples(st.sampled_from(RAMPS), st.sampled_from(OTHERS), st.booleans())


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    pair=st.tuples(DATA, DATA),
    changes=st.one_of(st.none(), st.tuples(CHANGES, CHANGES)),
    normalize=st.booleans(),
    scale=st.booleans(),
    share=st.sampled_from([1.0, 0.8]),
)
def test_one_identity_is_the_same_numbers(pair, changes, normalize, scale, share):
    runs = []
    for data, change in zip(pair, changes or (None, None), strict=True):
        ramps = [] if change is None else sorted(change[:2], reverse=change[2])
        ramp = {"ramp": " ".join(filter(None, ramps))} if ramps else {}
        shared = {"normalize_observations": normalize, "scale_rewards": scale, "top_returns": share}
        runs.append(run_of(data, **shared, **ramp))
    numbers, identities = zip(*((numbers_of(*run[:2]), run[2].identity) for run in runs), strict=True)
    assert (identities[0] == identities[1]) == (numbers[0] == numbers[1])


@pytest.mark.parametrize(
    ("given", "pair"),
    [
        ({}, ({}, {"rewards": 1024.0})),
        ({}, ({"rewards": 1 / 3}, {"rewards": 1 / 3 * 4})),
        ({"normalize_observations": True, "scale_rewards": False}, ({}, {"observations": 4.0})),
        ({"method": "td3_bc", "normalize_observations": True}, ({}, {"observations": 0.25})),
    ],
)
def test_data_that_look_alike_to_a_learner_are_other_runs(tmp_path, given, pair):
    """Values are in reward units, and actions those of the data as they are given."""
    ours = {"save_dir": tmp_path, **FEW, **given}
    method = ours.pop("method", "xql")
    first, second = (xql_jax.train(method=method, dataset=arrays(**data), **ours) for data in pair)
    assert (
        load_run(first.path).record["dataset_fingerprint"]
        == load_run(second.path).record["dataset_fingerprint"]
    )
    assert first.path != second.path
    factor = pair[1].get("rewards", 1.0) / pair[0].get("rewards", 1.0)
    data, others = arrays(**pair[0]), arrays(**pair[1])
    found = [
        policy.q(seen["observations"], seen["actions"]) for policy, seen in ((first, data), (second, others))
    ]
    np.testing.assert_allclose(found[1], factor * found[0], rtol=1e-6)
    np.testing.assert_array_equal(second(others["observations"]), first(data["observations"]))
    again = xql_jax.train(method=method, dataset=arrays(**pair[0]), **ours)
    assert again.path == first.path


def as_earlier(path, **typed):
    """Makes a run that has not begun to update as an earlier version would have: without the fit's digest."""
    content, preprocessing = (read_record(path / name) for name in ("config.json", "preprocessing.json"))
    content.pop(PREPROCESSING, None)
    content |= typed
    content["defining"] = [name for name in content["defining"] if name != PREPROCESSING]
    content["run"] = digest({name: content[name] for name in content["defining"]})[:16]
    old = path.with_name(f"{path.name[:-8]}{content['run'][:8]}")
    path.rename(old)
    write_record(old / "config.json", content)
    write_record(old / "preprocessing.json", {**preprocessing, "run": content["run"]})
    return old


def begun(folder, **given):
    """A run's folder as it is before the first update."""
    _, data, place = run_of({}, folder, **given)
    with place.locked():
        data.preprocessing.save(place.files.preprocessing, place.run_id)
    return place.path


@pytest.mark.parametrize(
    ("given", "typed"),
    [({"normalize_observations": True}, {}), ({}, {}), ({"ramp": "beta=2:0.5"}, {"ramp": "beta=2.0:0.50"})],
)
def test_a_run_of_an_earlier_version_is_found_if_it_has_the_same_numbers(tmp_path, given, typed):
    there = as_earlier(begun(tmp_path, **given), **typed)
    for data, is_same in (({}, True), ({"observations": 4.0, "rewards": 4.0}, False)):
        _, _, place = run_of(data, tmp_path, **given)
        assert (place.path == there) is is_same
        assert (place.run_id == load_run(there).run_id) is is_same
    assert make_again(tmp_path, there, **given) == there


def make_again(folder, there, **given):
    """The folder of the run that goes on there, with the identity that its files have."""
    _, data, place = run_of({}, folder, resume=True, **given)
    before = load_run(there).identity
    with place.locked():
        data.preprocessing.save(place.files.preprocessing, place.run_id)
    assert load_run(place.path).identity == before
    return place.path


def test_an_earlier_run_without_its_preprocessing_is_named(tmp_path, caplog):
    there = as_earlier(begun(tmp_path))
    (there / "preprocessing.json").unlink()
    assert run_of({}, tmp_path)[2].path != there
    assert f"{there}: whether it had the same data is not known" in caplog.text


def test_what_nothing_was_fitted_to_keeps_its_identity(tmp_path):
    assert PREPROCESSING not in run_of({}, scale_rewards=False)[2].identity
    assert PREPROCESSING in run_of({}, scale_rewards=True)[2].identity
    # Rewards of a root mean square of 1, whose factor is none: an earlier run may have had any other.
    units = {"rewards": float(1 / np.sqrt(np.mean(np.square(arrays()["rewards"]))))}
    assert PREPROCESSING in run_of(units)[2].identity


def test_fine_tuning_does_not_go_on_with_data_in_another_unit(tmp_path):
    file = tmp_path / "data.npz"
    write_dataset(file)
    settings = finetune_settings(tmp_path, normalize_observations=None, resume=True)
    with stopped_at("step 12: ") as stop:
        there = train_run(settings, stop).path
    rewards = np.load(file)["rewards"]
    write_dataset(file, rewards=1024 * rewards)
    with pytest.raises(UserError, match=f"^{there} cannot go on: its data, .*data.npz, have other numbers"):
        train_run(settings)
    assert [one.name for one in there.parent.iterdir()] == [there.name]
    other = train_run(dataclasses.replace(settings, resume=False, max_steps=6))
    assert other.path != there
    write_dataset(file)
    assert train_run(settings).path == there


def test_a_lost_preprocessing_of_a_finished_run_is_written_again(tmp_path):
    given = {"save_dir": tmp_path, "dataset": arrays(), **FEW}
    policy = xql_jax.train(**given)
    file, seen = policy.path / "preprocessing.json", arrays()["observations"]
    before = file.read_bytes()
    file.unlink()
    with pytest.raises(UserError, match=r"missing; --resume writes it again$"):
        xql_jax.load_policy(policy.path)(seen)
    again = xql_jax.train(**given)
    assert file.read_bytes() == before
    np.testing.assert_array_equal(again(seen), policy(seen))
