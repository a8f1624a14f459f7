"""Where a run lies, and that nothing but the run itself may lie there."""

import dataclasses
import json

import numpy as np
import pytest

import xql_jax
from xql_jax.errors import UserError
from xql_jax.training.run_folder import RunFolder, fingerprint

IDENTITY = {"config": {"beta": 0.5, "hidden_dims": (8, 8)}, "seeds": [4, 4], "max_steps": 10}


def make_folder(path, seeds=(4,), **identity):
    return RunFolder(path, "pen-human-v1", "xql", list(seeds), {**IDENTITY, **identity})


def test_place_says_what_runs(tmp_path):
    path = make_folder(tmp_path).path
    assert path.parent == tmp_path / "pen-human-v1" / "xql"
    assert path.name.startswith("seed4_")
    assert make_folder(tmp_path, seeds=(4, 5, 6)).path.name.startswith("seeds4-6_")


def test_other_settings_other_place(tmp_path):
    paths = {
        make_folder(tmp_path, **change).path
        for change in (
            {},
            {"max_steps": 11},
            {"config": {**IDENTITY["config"], "beta": 0.5000001}},
            {"extra": None},
        )
    }
    assert len(paths) == 4
    reordered = dict(reversed(IDENTITY.items()))
    assert dataclasses.replace(make_folder(tmp_path), identity=reordered).path == make_folder(tmp_path).path


def test_config_says_what_ran(tmp_path):
    folder = make_folder(tmp_path)
    folder.open(resume=False)
    config = json.loads((folder.path / "config.json").read_text())
    assert config["config"] == {"beta": 0.5, "hidden_dims": [8, 8]}
    assert (config["seeds"], config["max_steps"]) == ([4, 4], 10)
    assert config["versions"]["numpy"] == np.__version__
    assert config["versions"]["xql_jax"] == xql_jax.__version__
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]


def test_a_run_that_exists_is_not_begun_again(tmp_path):
    folder = make_folder(tmp_path)
    folder.open(resume=False)
    (folder.path / "config.json").write_text("untouched")
    with pytest.raises(UserError, match="--resume") as error:
        folder.open(resume=False)
    assert str(folder.path) in str(error.value)
    assert (folder.path / "config.json").read_text() == "untouched"
    folder.open(resume=True)
    make_folder(tmp_path, max_steps=11).open(resume=False)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--save_dir") as error:
        make_folder(tmp_path / "file").open(resume=False)
    assert str(tmp_path / "file") in str(error.value)


def test_only_a_finished_run_has_a_finished_summary(tmp_path):
    folder = make_folder(tmp_path)
    folder.open(resume=False)
    assert folder.finished_summary() is None
    folder.write_summary({"status": "interrupted", "step": 5})
    assert folder.finished_summary() is None
    folder.write_summary({"status": "finished", "step": 10})
    assert folder.finished_summary() == {"status": "finished", "step": 10}


def test_fingerprint_is_of_the_bytes():
    arrays = [np.arange(6.0).reshape(2, 3), np.zeros(2)]
    assert fingerprint(arrays) == fingerprint([array.copy(order="F") for array in arrays])
    changed = [arrays[0].copy(), arrays[1]]
    changed[0][1, 2] = np.nextafter(5.0, 6.0)
    assert fingerprint(changed) != fingerprint(arrays)
    assert fingerprint(arrays[::-1]) != fingerprint(arrays)
