"""Where a run lies, that only the run itself may lie there, and that damage to its files is noticed."""

import importlib
import json
import types

import jax
import pytest

from xql_jax.data.preprocessing import Preprocessing
from xql_jax.envs import OURS
from xql_jax.errors import Damaged
from xql_jax.files import as_json, read_record
from xql_jax.runs import machine
from xql_jax.runs.folder import RunFolder
from xql_jax.runs.records import defining, read_config
from xql_jax.suites.tasks import get_task
from xql_jax.training.members import make_members

IDENTITY = {
    "config": {"algorithm": "xql", "beta": 0.5, "hidden_dims": (8, 8)},
    "seeds": [4, 4],
    "max_steps": 10,
}


def make_folder(path, seeds=(4,), grid=None, label="", env_name="pen-human-v1", task=None, **identity):
    members = make_members(seeds, grid or {})
    identity = {"env_name": env_name, **IDENTITY, **identity}
    about = {"sizes": [3, 1], "env_backend": "mujoco", "legacy_inertia": False}
    settings = types.SimpleNamespace(
        save_dir=str(path), method="xql", seeds=seeds, task=task, simulation=OURS,
        schedule=types.SimpleNamespace(max_steps=10),
    )  # fmt: skip
    job = types.SimpleNamespace(settings=settings, members=members, fixed_length="")
    return RunFolder(job, env_name, json.loads(as_json(identity)), label, about)


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
