"""The way of a run's data, from the sources to the learner's form: read once, whoever's units they have."""

import shutil

import numpy as np
import pytest
from tiny_runs import SCHEDULE, made, small

from xql_jax.data.arrays import from_arrays
from xql_jax.data.rows import write_hdf5
from xql_jax.errors import UserError
from xql_jax.files import read_record, write_record
from xql_jax.runs import run_data
from xql_jax.runs.kinds import Finetune, Offline
from xql_jax.runs.load import DATA_ROWS, load_run
from xql_jax.runs.resolve import resolved
from xql_jax.runs.run_data import load_data
from xql_jax.runs.train import train_run
from xql_jax.suites import Values

USUAL = {**SCHEDULE, "batch_size": 4, "max_steps": 2, "log_interval": 1, "eval_interval": 2}


def walks(seed=0):
    """Ten episodes of 20 steps, whose actions are within ±1."""
    generator = np.random.default_rng(seed)
    seen = np.cumsum(generator.normal(size=(10, 21, 3)), axis=1).astype(np.float32)
    rows = {
        "observations": seen[:, :-1].reshape(-1, 3),
        "actions": generator.uniform(-1, 1, (200, 1)).astype(np.float32),
        "rewards": generator.normal(size=200).astype(np.float32),
        "next_observations": seen[:, 1:].reshape(-1, 3),
    }
    last = np.arange(200) % 20 == 19
    return {**rows, "terminals": np.zeros_like(last), "timeouts": last}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run on data alone, so that no environment told it the bounds of actions."""
    folder = tmp_path_factory.mktemp("alone")
    np.savez(folder / "own.npz", **walks())
    settings = {**USUAL, "save_dir": str(folder), "dataset": (str(folder / "own.npz"),)}
    return train_run(made(Offline, small("xql"), **settings)).path


def learned(alone, *dataset):
    """What a fine-tuning in an environment of bounds ±2 learns from."""
    settings = {**USUAL, "checkpoint": str(alone), "env_name": "Pendulum-v1", "dataset": dataset or None}
    return load_data(resolved(made(Finetune, small("xql"), **settings)), None).dataset


@pytest.mark.parametrize("again", ["by the checkpoint", "moved", "other format", "in memory"])
def test_a_runs_own_data_keep_their_units_whatever_they_are_called(
    alone, tmp_path, again, monkeypatch, caplog
):
    reads, read = [], run_data.load_dataset
    monkeypatch.setattr(run_data, "load_dataset", lambda *given: reads.append(given) or read(*given))
    shutil.copy(alone.parents[2] / "own.npz", tmp_path / "moved.npz")
    write_hdf5(tmp_path / "set.hdf5", walks(), {})
    source = {
        "by the checkpoint": [],
        "moved": [str(tmp_path / "moved.npz")],
        "other format": [str(tmp_path / "set.hdf5")],
        "in memory": [from_arrays(walks(), "arrays")],
    }[again]
    assert learned(alone, *source).fingerprint() == load_run(alone).record["dataset_fingerprint"]
    assert "not the data" not in caplog.text
    assert len(reads) == 1


@pytest.mark.parametrize("change", [{"actions": 0.5 * walks()["actions"]}, walks(seed=1)])
def test_other_data_are_in_the_environments_units(alone, tmp_path, change, caplog):
    rows = walks() | change
    np.savez(tmp_path / "other.npz", **rows)
    actions = learned(alone, str(tmp_path / "other.npz")).batch.actions
    np.testing.assert_allclose(actions, rows["actions"] / 2)  # bounds ±2 to ±1
    assert "not the data that the checkpoint was trained on" in caplog.text
    assert "within ±1, and the environment takes -2 to 2" in caplog.text


def test_a_run_of_an_earlier_version_knows_its_data_by_their_files(alone, tmp_path):
    run = tmp_path / "runs" / alone.name
    shutil.copytree(alone, run)
    record = read_record(run / "config.json")
    del record[DATA_ROWS]
    write_record(run / "config.json", record)
    shutil.copy(alone.parents[2] / "own.npz", tmp_path / "moved.npz")
    np.savez(tmp_path / "other.npz", **walks(seed=1))
    own = walks()["actions"]
    np.testing.assert_allclose(learned(run, str(tmp_path / "moved.npz")).batch.actions, own, atol=1e-5)
    other = learned(run, str(tmp_path / "other.npz")).batch.actions
    np.testing.assert_allclose(other, walks(seed=1)["actions"] / 2)


@pytest.mark.parametrize(
    ("method", "changes", "needs_order"),
    [("xql", {}, False), ("xql", {"n_step": 3}, True), ("bc", {"action_chunk": 2}, True)]
    + [(method, {}, True) for method in ("dt", "onestep", "rebrac", "cal_ql")],
)
def test_whoever_learns_from_sequences_needs_rows_in_order(tmp_path, method, changes, needs_order):
    order = np.random.default_rng(0).permutation(200)
    shuffled = {name: array[order] for name, array in walks().items() if name != "timeouts"}
    data = from_arrays(shuffled, "shuffled.npz")
    values = {**USUAL, "save_dir": str(tmp_path), "dataset": (data,), **changes}
    settings = resolved(made(Offline, (method, (), Values({})), **values))
    if needs_order:
        with pytest.raises(UserError, match=r"^shuffled\.npz: .* but the method learns from sequences: "):
            load_data(settings, None)
    else:
        assert load_data(settings, None).dataset.size == 200


@pytest.mark.parametrize(
    ("method", "env_name", "is_told"),
    [("xql", None, True), ("iql", None, True), ("bc", None, False), ("xql", "Pendulum-v1", False)],
)
def test_data_alone_name_the_cloning_to_train_beside_a_method(method, env_name, is_told, tmp_path, caplog):
    np.savez(tmp_path / "own.npz", **walks())
    settings = {**USUAL, "dataset": (str(tmp_path / "own.npz"),), "env_name": env_name}
    with caplog.at_level("INFO"):
        load_data(resolved(made(Offline, small(method), **settings)), None)
    assert ("clones these alone" in caplog.text) == is_told
