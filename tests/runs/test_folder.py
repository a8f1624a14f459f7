"""Where a run lies, that only the run itself may lie there, and that damage to its files is noticed."""

import dataclasses
import importlib
import json
import types
from unittest import mock

import jax
import numpy as np
import pytest

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs import OURS
from xql_jax.errors import Damaged, UserError
from xql_jax.files import as_json, read_record
from xql_jax.runs import machine
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.folder import RunFolder, run_label
from xql_jax.runs.kinds import Offline
from xql_jax.runs.records import defining, read_config
from xql_jax.suites.tasks import get_task

IDENTITY = {
    "config": {"algorithm": "xql", "beta": 0.5, "hidden_dims": (8, 8)},
    "seeds": [4, 4],
    "max_steps": 10,
}


def make_folder(path, seeds=(4,), grid=None, label="", env_name="pen-human-v1", task=None, **identity):
    identity = {"env_name": env_name, **IDENTITY, **identity}
    about = {"sizes": [3, 1], "env_backend": "mujoco", "legacy_inertia": False}
    settings = types.SimpleNamespace(
        save_dir=str(path), method="xql", seeds=seeds, task=task, simulation=OURS,
        schedule=types.SimpleNamespace(max_steps=10), grid=grid or {}, kind="offline", unit="step",
    )  # fmt: skip
    return RunFolder(settings, env_name, json.loads(as_json(identity)), label, about)


def begun(path, resume=False, **options):
    """A folder in which the run has begun."""
    folder = make_folder(path, **options)
    with folder.locked(resume):
        Preprocessing().save(folder.files.preprocessing, folder.run_id)
    return folder


@pytest.fixture
def told(caplog):
    """Returns the warnings since it was last asked."""

    def take():
        lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        caplog.clear()
        return lines

    return take


def test_its_name_is_derived_from_the_settings(tmp_path):
    path = make_folder(tmp_path).path
    assert path.parent == tmp_path / "pen-human-v1" / "xql"
    assert make_folder(tmp_path, seeds=(4, 5, 6)).path.name.startswith("seeds4-6_")
    changes = ({}, {"max_steps": 11}, {"config": {**IDENTITY["config"], "beta": 0.5000001}}, {"extra": None})
    assert len({make_folder(tmp_path, **change).path for change in changes}) == 4
    reordered = dict(reversed(make_folder(tmp_path).identity.items()))
    assert dataclasses.replace(make_folder(tmp_path), identity=reordered).path == path


def test_it_is_found_whatever_its_label(tmp_path):
    new = make_folder(tmp_path, label="beta=1")
    assert new.path.name == f"seed4_offline_beta=1_{new.run_id[:8]}"
    old = begun(tmp_path)
    assert make_folder(tmp_path, label="beta=1").path == old.path
    assert make_folder(tmp_path, label="beta=1", seeds=(4, 5)).path != old.path


def own_data(path, names, digests, fingerprint="f1", **identity):
    """A run on one's own data."""
    about = {"dataset": names, "data_files": [["x.npz", 7, digest] for digest in digests]}
    identity = {"env_name": None, "dataset_fingerprint": fingerprint, "dataset_episodes": "e1", **identity}
    return dataclasses.replace(make_folder(path, **identity), env_name=names[0], about=about)


def test_data_are_known_by_their_digest_whatever_their_files_are_called(tmp_path):
    """Under another name their folder is another one, unless the run is there already."""
    first = own_data(tmp_path, ["mine"], ["d1"])
    with first.locked(resume=False):
        pass
    assert json.loads((first.path / "config.json").read_text())["dataset"] == ["mine"]
    assert own_data(tmp_path, ["copy"], ["d1"]).path == first.path
    assert own_data(tmp_path, ["copy"], ["other bytes, same rows"]).path == first.path
    for other in ({"dataset_fingerprint": "f2"}, {"dataset_episodes": "e2"}):
        assert own_data(tmp_path, ["mine"], ["d1"], **other).path != first.path


def test_a_resumed_run_keeps_what_began_it_and_says_what_is_another(tmp_path, monkeypatch, told):
    monkeypatch.setenv("NPROC", "7")
    folder = begun(tmp_path)
    began = read_record(folder.path / "config.json")
    monkeypatch.setattr("xql_jax.runs.machine.versions", lambda: {**began["versions"], "jax": "0.0"})
    monkeypatch.setattr("xql_jax.runs.machine.code_digest", lambda: "edited")
    monkeypatch.setenv("NPROC", "1")
    (folder.files.checkpoints / "500").mkdir(parents=True)
    resumed = read_record(begun(tmp_path, resume=True).path / "config.json")
    versions, machine = {**began["versions"], "jax": "0.0"}, {**began["machine"], "cores": 1}
    here = {"versions": versions, "machine": machine, "commit": began["commit"], "code": "edited"}
    assert resumed == {**began, "resumed": [{**here, "after_step": 500}]}
    [line] = told()
    for part in ("500", f"{began['code']}, here edited", f"jax {jax.__version__}, here 0.0", "NPROC=7"):
        assert part in line


def test_a_finished_run_of_other_code_is_only_loaded_and_that_is_told(tmp_path, monkeypatch, told):
    """The package's, and an own environment's: its module, or the package of its class."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "world").mkdir()
    own, rewards = tmp_path / "own_world.py", tmp_path / "world" / "rewards.py"
    own.write_text("import gymnasium\ngymnasium.register('W-v0', 'world.make:World', max_episode_steps=9)\n")
    rewards.write_text("SCALE = 1\n")
    (tmp_path / "world" / "__init__.py").touch()
    importlib.import_module("world")
    task = get_task("own_world:W-v0")
    folder = make_folder(tmp_path, task=task)
    with folder.locked(resume=False):
        Preprocessing().save(folder.files.preprocessing, folder.run_id)
        folder.write_summary({"status": "finished", "step": 10})
    assert folder.finished()
    assert told() == []
    for change in (lambda: rewards.write_text("SCALE = 2\n"), lambda: own.write_text("")):
        change()
        assert folder.finished()
        [line] = told()
        assert "world" in line
    monkeypatch.setattr(machine, "code_digest", lambda: "edited")
    assert folder.finished()
    assert "here edited" in told()[0]


@pytest.mark.parametrize("found", [AssertionError(), RuntimeError("no backend"), "cpu"])
def test_a_platform_that_is_not_there_is_a_line(monkeypatch, found):
    """JAX raises either error, or falls back to a CPU that was added."""
    monkeypatch.setattr(jax, "default_backend", mock.Mock(side_effect=[found]))
    with pytest.raises(UserError, match="JAX_PLATFORMS=cuda: not available"):
        machine.check_platforms("cuda")


def test_a_note_in_config_is_kept_and_what_defines_the_run_is_not_edited(tmp_path, told):
    folder = begun(tmp_path)
    file = folder.path / "config.json"
    folder.write_summary({"status": "finished", "step": 10})
    edited = {**json.loads(file.read_text()), "machine": {"cores": 2}, "note": "mine", "why": ["a", "test"]}
    file.write_text(json.dumps(edited))
    assert folder.finished().status == "finished"
    assert defining(read_config(file)) == folder.identity
    assert read_record(begun(tmp_path, resume=True).path / "config.json")["why"] == ["a", "test"]
    for change in ({"max_steps": 11}, {"config": {}}, {"defining": ["config"]}, {"run": "0"}):
        file.write_text(json.dumps({**edited, **change}))
        with pytest.raises(Damaged, match=r"config\.json: damaged"):
            read_config(file)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--save_dir"):
        begun(tmp_path / "file")


def test_only_a_finished_run_has_a_summary_whose_scores_are_numbers(tmp_path):
    folder = begun(tmp_path)
    assert folder.finished() is None
    folder.write_summary({"status": "interrupted", "step": 5})
    assert folder.finished() is None
    entry = {"hyperparameters": {"clip": np.inf}, "last_score_by_seed": [-np.inf, 1.5]}
    folder.write_summary({"status": "finished", "step": 10, "results": [entry]})
    assert folder.finished().summary["results"] == [entry]


@pytest.mark.parametrize("name", ["config.json", "summary.json"])
@pytest.mark.parametrize("content", [b"", b'{"a": 1}'])
def test_a_damaged_record_is_refused_until_it_is_deleted(tmp_path, name, content):
    folder = begun(tmp_path)
    whole = read_record(folder.path / "config.json")
    folder.write_summary({"status": "finished", "step": 10})
    (folder.path / name).write_bytes(content)
    with pytest.raises(Damaged, match=rf"{name}: damaged: .*; delete it: --resume writes it again$"):
        folder.finished()
    (folder.path / name).unlink()
    assert folder.finished() is None
    again = read_record(begun(tmp_path, resume=True).path / "config.json")
    assert {**again, "resumed": []} == {**whole, "resumed": []}


def test_who_resumes_what_is_not_there_is_told(tmp_path, caplog):
    caplog.set_level("INFO")
    begun(tmp_path, resume=True)
    assert "a new run begins" not in caplog.text
    begun(tmp_path, resume=True, config={**IDENTITY["config"], "beta": 0.6})
    assert f"a new run begins, as none has these settings: xql-runs {tmp_path}" in caplog.text


@pytest.mark.parametrize(
    ("name", "packages"),
    [("cheetah-run", {"dm_control"}), ("playground:CheetahRun", {"playground", "mujoco-mjx"})],
)
def test_the_versions_of_the_tasks_packages_are_recorded_and_compared(name, packages):
    began = machine.surroundings(get_task(name))
    assert packages <= began["versions"].keys() - machine.surroundings()["versions"].keys()
    for package in packages:
        before = {**began, "versions": {**began["versions"], package: "0.0"}}
        assert f"{package} 0.0, here" in machine.differences(before, began)


def test_one_process_at_a_time(tmp_path):
    folder = make_folder(tmp_path)
    with folder.locked(True), pytest.raises(UserError, match="another process"), folder.locked(True):
        pass
    with folder.locked(True), make_folder(tmp_path, max_steps=11).locked(resume=False):
        pass


@pytest.mark.parametrize(
    ("sweep", "fields", "expected"),
    [
        ("", {}, ""),
        ("", {"beta": 0.2}, ""),  # typed, and the file's own
        ("beta=1,2 clip=5,7", {"layer_norm": True}, "beta=1,2_clip=5,7_batch_size=64_layer_norm=true"),
        (
            "",
            dict.fromkeys(("actor_hidden_dims", "critic_hidden_dims", "value_hidden_dims"), (8,)),
            "batch_size=64_hidden_dims=8",
        ),
    ],
)
def test_the_label_has_what_differs_from_the_file(sweep, fields, expected):
    base = choose_config(Offline).values
    batch_size = 64 if expected else 256
    identity = {"config": base | fields, "sweep": sweep, "batch_size": batch_size}
    assert run_label(base, identity) == expected
