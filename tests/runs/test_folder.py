"""Where a run lies, and that nothing but the run itself may lie there."""

import dataclasses
import errno
import json
import os
import random
import re
import shutil

import numpy as np
import pytest

import xql_jax
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.runs.folder import RunFolder, read_config, read_summary, rows_digest
from xql_jax.training.members import make_members

IDENTITY = {"config": {"beta": 0.5, "hidden_dims": (8, 8)}, "seeds": [4, 4], "max_steps": 10}


def make_folder(path, seeds=(4,), grid=None, **identity):
    members = make_members(seeds, grid or {})
    return RunFolder(path, "pen-human-v1", "xql", list(seeds), members, {**IDENTITY, **identity})


@pytest.fixture
def told(caplog):
    """Returns what was told since it was last asked: the levels and the lines."""
    caplog.set_level("INFO")

    def take():
        lines = [(record.levelname, record.getMessage()) for record in caplog.records]
        caplog.clear()
        return lines

    return take


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
    assert config["columns"] == {"times": ["step", "seconds"], "settings": ["seed"]}
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "config.json"]


def test_columns_are_declared(tmp_path):
    folder = make_folder(tmp_path, grid={"beta": [1.0, 2.0], "tau": [0.5]})
    with folder.opened(resume=False):
        pass
    columns = json.loads((folder.path / "config.json").read_text())["columns"]
    assert columns == {"times": ["step", "seconds"], "settings": ["seed", "beta", "tau"]}


def test_a_resumed_run_keeps_what_began_it(tmp_path, monkeypatch, told):
    folder = make_folder(tmp_path)
    with folder.opened(resume=False):
        began = read_config(folder.path / "config.json")
    monkeypatch.setattr("xql_jax.runs.folder.versions", lambda: {**began["versions"], "jax": "0.0"})
    with folder.opened(resume=True):
        resumed = read_config(folder.path / "config.json")
    here = {"versions": {**began["versions"], "jax": "0.0"}, "machine": began["machine"]}
    assert resumed == {**began, "resumed": [{**here, "commit": began["commit"]}]}
    ((level, line),) = told()
    assert level == "WARNING"
    assert f"its numbers may differ from now on: jax {began['versions']['jax']}, here 0.0" in line


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NPROC": "1"}, "cores 7, here 1; set NPROC=7 in the environment to compute sums in the same order"),
        ({"NPROC": "1", "PJRT_NPROC": "2"}, "cores 7, here 2"),
        (
            {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true"},
            "XLA_FLAGS , here --xla_cpu_enable_fast_math=true",
        ),
    ],
)
def test_a_run_resumed_on_another_machine_says_so(tmp_path, monkeypatch, told, variables, words):
    folder = make_folder(tmp_path)
    monkeypatch.setenv("NPROC", "7")
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with folder.opened(resume=False):
        pass
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with folder.opened(resume=True):
        ((level, line),) = told()  # before it goes on
    assert level == "WARNING"
    assert words in line


def test_a_setting_that_only_the_other_run_records_is_told(tmp_path, told):
    with make_folder(tmp_path, eval_at_start=True).opened(resume=False):
        pass
    with make_folder(tmp_path).opened(resume=True):
        pass
    ((_, line),) = told()
    assert line.endswith(" has eval_at_start=True, here the default")


def test_who_resumes_what_is_not_there_is_told_of_the_run_most_like_it(tmp_path, told):
    with make_folder(tmp_path).opened(resume=True):
        pass
    assert told() == []  # there is no other
    far = make_folder(tmp_path, max_steps=11, config={"beta": 2.0, "hidden_dims": (9, 9)})
    with far.opened(resume=False):
        pass
    assert told() == []  # nothing was to be resumed
    near = make_folder(tmp_path, config={"beta": 0.5, "hidden_dims": (8, 8, 8)})
    with near.opened(resume=True):
        pass
    line = (
        "there is no run with these settings to resume, a new one begins; "
        f"{make_folder(tmp_path).path.name} has config.hidden_dims=[8, 8], here [8, 8, 8]"
    )
    assert told() == [("INFO", line)]
    with near.opened(resume=True):
        pass
    assert told() == []


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
    with pytest.raises(KeyboardInterrupt), folder.opened(resume=True):
        raise KeyboardInterrupt
    with folder.opened(resume=True):
        pass


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
    with folder.opened(resume=False):
        pass
    assert folder.finished_summary() is None
    folder.write_summary({"status": "interrupted", "step": 5})
    assert folder.finished_summary() is None
    written = folder.write_summary({"status": "finished", "step": 10})
    assert written == {"status": "finished", "step": 10, "run": folder.run}
    assert folder.finished_summary() == written


def test_scores_that_are_not_finite_are_numbers_and_names_stay_names(tmp_path):
    folder = make_folder(tmp_path)
    folder.path.mkdir(parents=True)
    entry = {"hyperparameters": {"clip": np.inf}, "last_score_by_seed": [-np.inf, 1.5]}
    summary = {
        "results": [entry],
        "finetuning": [{"regret": np.inf}],
        "env_name": "inf",
        "status": "finished",
    }
    written = folder.write_summary(summary)
    assert written == read_summary(folder.files.summary, folder.run) == {**summary, "run": folder.run}
    assert '"clip": "inf"' in folder.files.summary.read_text()


def test_a_summary_of_another_run_is_none(tmp_path, told):
    folder, other = make_folder(tmp_path), make_folder(tmp_path, max_steps=11)
    for each in (folder, other):
        each.path.mkdir(parents=True)
        each.write_summary({"status": "finished"})
    shutil.copy(other.files.summary, folder.files.summary)
    assert folder.finished_summary() is None
    ((_, line),) = told()
    assert (
        line
        == f"{folder.files.summary}: of another run, {other.run}; this one is {folder.run}; it is made anew"
    )
    theirs = folder.files.summary.read_bytes()
    folder.write_summary({"status": "finished"})
    assert (folder.path / "damaged-summary.json").read_bytes() == theirs


@pytest.mark.parametrize("damage", ["missing", "short", "flipped"])
def test_a_finished_runs_rows_that_are_not_there_are_noticed(tmp_path, told, damage):
    folder = make_folder(tmp_path)
    with folder.opened(resume=False):
        pass
    rows = b"step,seed,score\n10,4,1.5\n"
    folder.files.evaluations.write_bytes(rows)
    digest = rows_digest(folder.files.evaluations)
    folder.write_summary({"status": "finished", "logs": {"evaluations.csv": digest}})
    assert folder.finished_summary()["status"] == "finished"
    assert told() == []
    if damage == "missing":
        folder.files.evaluations.unlink()
    else:
        folder.files.evaluations.write_bytes(rows[:16] if damage == "short" else rows.replace(b"1.5", b"2.5"))
    with pytest.raises(UserError, match=r"evaluations\.csv is not as it was written; there is no checkpoint"):
        folder.finished_summary()
    (folder.files.checkpoints / "10").mkdir(parents=True)
    told()
    assert folder.finished_summary() is None
    (level, line) = told()[-1]
    assert level == "WARNING"
    assert "evaluations.csv is not as it was written; it is made anew" in line


GARBAGE = [b"", b"{", b"\xff\xfe\x00", b"[1, 2]", b"null", b"12", b'{"a": 1}', b"[" * 100_000]


@pytest.mark.parametrize("content", GARBAGE)
def test_a_damaged_config_is_written_anew(tmp_path, told, content):
    folder = make_folder(tmp_path)
    with folder.opened(resume=False):
        pass
    file = folder.path / "config.json"
    whole = json.loads(file.read_text())
    whole.pop("digest")
    file.write_bytes(content)
    with pytest.raises(UserError, match="this run exists"), folder.opened(resume=False):
        pass
    assert file.read_bytes() == content
    assert told() == []
    with folder.opened(resume=True):
        pass
    ((level, line),) = told()
    assert level == "WARNING"
    assert line.startswith(f"{file}: damaged: ")
    assert line.endswith("; it is written anew, the file as it was is damaged-config.json")
    assert (folder.path / "damaged-config.json").read_bytes() == content
    config = read_config(file)
    assert config.pop("note")
    here = {name: whole[name] for name in ("versions", "machine", "commit")}
    assert config == {**whole, "resumed": [here]}
    with folder.opened(resume=True):
        pass
    assert told() == []


def test_a_config_of_other_settings_is_damaged(tmp_path, told):
    """The folder's name is a digest of the settings, so those are right."""
    folder = make_folder(tmp_path)
    with folder.opened(resume=False):
        pass
    file = folder.path / "config.json"
    file.write_text(file.read_text().replace('"beta": 0.5', '"beta": 0.7'))
    with folder.opened(resume=True):
        pass
    ((_, line),) = told()
    assert "it is written anew" in line
    assert json.loads(file.read_text())["config"]["beta"] == 0.5


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("config.json", b"beta"),
        ("config.json", None),
        ("preprocessing.json", b"action_bound"),
        ("preprocessing.json", None),
    ],
)
def test_a_finished_runs_damaged_records_are_made_anew(tmp_path, told, name, changed):
    folder = make_folder(tmp_path, normalize_observations=False)
    with folder.opened(resume=False):
        pass
    Preprocessing().save(folder.files.preprocessing, folder.run)
    folder.write_summary({"status": "finished"})
    assert folder.finished_summary()["status"] == "finished"
    file = folder.path / name
    if changed is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes().replace(changed, b"x" + changed))
    with pytest.raises(UserError, match=rf"{name} is not as it was written; there is no checkpoint"):
        folder.finished_summary()
    (folder.files.checkpoints / "10").mkdir(parents=True)
    assert folder.finished_summary() is None
    assert "it is made anew" in told()[-1][1]


def test_a_run_without_its_config_is_there_all_the_same(tmp_path):
    folder = make_folder(tmp_path)
    (folder.path / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="this run exists"), folder.opened(resume=False):
        pass
    with folder.opened(resume=True):
        pass
    assert (folder.path / "config.json").exists()


@pytest.mark.parametrize("content", GARBAGE)
def test_a_damaged_summary_is_none(tmp_path, told, content):
    folder = make_folder(tmp_path)
    folder.path.mkdir(parents=True)
    folder.files.summary.write_bytes(content)
    assert folder.finished_summary() is None
    ((level, line),) = told()
    assert level == "WARNING"
    assert line.startswith(f"{folder.files.summary}: damaged: ")
    assert line.endswith("; it is made anew")


def test_one_flipped_bit_in_the_summary(tmp_path):
    """Its numbers come back as they were or not at all."""
    folder = make_folder(tmp_path)
    folder.path.mkdir(parents=True)
    summary = {"status": "finished", "step": 10, "results": [{"seeds": [1, 2], "score": 45.5, "i": "inf"}]}
    summary = folder.write_summary(summary)
    content, generator = folder.files.summary.read_bytes(), random.Random(0)
    for offset in range(len(content)):
        changed = bytearray(content)
        changed[offset] ^= 1 << generator.randrange(8)
        folder.files.summary.write_bytes(changed)
        found = folder.finished_summary()
        assert found in (None, summary)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES])
def test_a_refusal_that_no_writer_tells(tmp_path, number):
    folder = make_folder(tmp_path)
    with pytest.raises(UserError) as error, folder.opened(resume=False):
        raise OSError(number, os.strerror(number))
    reason = rf"cannot write {folder.path}: {os.strerror(number)}; .* and go on with --resume"
    assert re.fullmatch(reason, str(error.value))
    with pytest.raises(UserError, match=r"cannot write maze.png: "), folder.opened(resume=True):
        raise OSError(number, os.strerror(number), "maze.png")


def test_mistakes_of_the_program_are_not_laid_to_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError), make_folder(tmp_path).opened(resume=False):
        (tmp_path / "nowhere").read_text()
