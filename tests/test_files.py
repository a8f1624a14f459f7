"""Files whole or not at all, on the disk before they take their name, and the line where they cannot be."""

import contextlib
import errno
import fcntl
import json
import logging
import os
from unittest import mock

import pytest

from xql_jax.errors import UserError
from xql_jax.files import as_json, is_locked, locked, with_numbers, write_atomically


def test_readers_see_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    path.write_text("old")
    replace = os.replace

    def kill_before_renaming(source, target):
        # All of it is there before the name changes.
        assert (path.read_text(), source.read_text()) == ("old", "new")
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", kill_before_renaming)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    monkeypatch.setattr(os, "replace", replace)
    write_atomically(path, "newer")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("summary.json", "newer")]


def test_the_disk_has_the_file_before_its_name_and_then_the_name(tmp_path, monkeypatch):
    done, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda number: done.append(os.readlink(f"/proc/self/fd/{number}")))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("replace"), replace(*names)))
    write_atomically(tmp_path / "a", "text")
    assert done == [str(tmp_path / "a.tmp"), "replace", str(tmp_path)]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_refusal_leaves_the_old_file_and_takes_no_space(tmp_path, monkeypatch, number, call):
    path = tmp_path / "summary.json"
    path.write_text("old")
    monkeypatch.setattr(os, call, mock.Mock(side_effect=OSError(number, os.strerror(number))))
    with pytest.raises(UserError, match=f"^cannot write {path}: {os.strerror(number)}; .* with --resume$"):
        write_atomically(path, "new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("summary.json", "old")]


def test_json_has_no_infinity(tmp_path):
    text = as_json({"a": [float("inf"), 1.5], "b": {"c": float("nan")}})
    write_atomically(tmp_path / "file.json", text)
    content = json.loads((tmp_path / "file.json").read_text(), parse_constant=pytest.fail)
    assert content == {"a": ["inf", 1.5], "b": {"c": "nan"}}
    restored = with_numbers(content)
    assert restored["a"] == [float("inf"), 1.5]
    assert restored["b"]["c"] != restored["b"]["c"]  # a float that is NaN


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EIO])
def test_a_file_system_without_locks_is_warned_of_and_another_error_is_one(
    tmp_path, monkeypatch, caplog, number
):
    monkeypatch.setattr(fcntl, "flock", mock.Mock(side_effect=OSError(number, os.strerror(number))))
    begun = []
    with caplog.at_level(logging.WARNING), contextlib.suppress(OSError), locked(tmp_path / "lock", "run"):
        begun.append(is_locked(tmp_path / "lock"))
    assert begun == ([] if number == errno.EIO else [False])
    assert ("has no locks" in caplog.text) == (number != errno.EIO)
