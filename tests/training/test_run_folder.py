"""Where a run lies, and that nothing but the run itself may lie there."""

import dataclasses
import json

import numpy as np
import pytest

import xql_jax
from xql_jax.errors import UserError
from xql_jax.training.run_folder import RunFolder, fingerprint, write_json

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
    with folder.opened(resume=False):
        pass
    config = json.loads((folder.path / "config.json").read_text())
    assert config["config"] == {"beta": 0.5, "hidden_dims": [8, 8]}
    assert (config["seeds"], config["max_steps"]) == ([4, 4], 10)
    assert config["versions"]["numpy"] == np.__version__
    assert config["versions"]["xql_jax"] == xql_jax.__version__
    assert config["resumed"] == []
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "config.json"]


def test_a_resumed_run_keeps_what_began_it(tmp_path, monkeypatch, capsys):
    folder = make_folder(tmp_path)
    with folder.opened(resume=False):
        began = json.loads((folder.path / "config.json").read_text())
    monkeypatch.setattr("xql_jax.training.run_folder._versions", lambda: {"jax": "0.0"})
    with folder.opened(resume=True):
        resumed = json.loads((folder.path / "config.json").read_text())
    assert resumed == {**began, "resumed": [{"versions": {"jax": "0.0"}, "commit": began["commit"]}]}
    assert "other versions" in capsys.readouterr().out


def test_one_process_at_a_time(tmp_path):
    folder = make_folder(tmp_path)
    with (
        folder.opened(resume=True),
        pytest.raises(UserError, match="another process"),
        folder.opened(resume=True),
    ):
        pass
    with folder.opened(resume=True):
        pass


def test_json_has_no_infinity(tmp_path):
    write_json(tmp_path / "file.json", {"a": [float("inf"), 1.5], "b": {"c": float("nan")}})
    content = json.loads((tmp_path / "file.json").read_text(), parse_constant=pytest.fail)
    assert content == {"a": ["inf", 1.5], "b": {"c": "nan"}}


def test_a_run_that_exists_is_not_begun_again(tmp_path):
    folder = make_folder(tmp_path)
    with folder.opened(resume=False):
        pass
    before = (folder.path / "config.json").read_bytes()
    with pytest.raises(UserError, match="--resume") as error, folder.opened(resume=False):
        pass
    assert str(folder.path) in str(error.value)
    assert (folder.path / "config.json").read_bytes() == before
    with folder.opened(resume=True), make_folder(tmp_path, max_steps=11).opened(resume=False):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--save_dir") as error, make_folder(tmp_path / "file").opened(False):
        pass
    assert str(tmp_path / "file") in str(error.value)


def test_only_a_finished_run_has_a_finished_summary(tmp_path):
    folder = make_folder(tmp_path)
    folder.path.mkdir(parents=True)
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
