"""Outputs never take the place of inputs or of a run's own files, and are there whole or not at all."""

import errno
import os
import resource
from pathlib import Path

import pytest

from xql_jax.errors import UserError
from xql_jax.outputs import check_output, check_outputs_differ, make_folder, writing_output


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def make_run(path):
    """What makes a folder a run's."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


@pytest.mark.parametrize("name", ["data.npz", "sub/../data.npz", "link.npz", "~/data.npz", "sub/new/a.npz"])
def test_an_input_is_not_written_over(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("data.npz").touch()
    Path("sub").mkdir()
    Path("link.npz").symlink_to("data.npz")
    with pytest.raises(UserError, match=r"^--json=.*npz: that is an input, .*, or inside it: give another"):
        check_output("json", name, inputs=[tmp_path / "data.npz", "sub"])
    assert check_output("json", "other.npz", inputs=["data.npz", "sub"]) == Path("other.npz")


@pytest.mark.parametrize(
    "name",
    ["config.json", "metrics.csv.tmp", ".lock", "damaged-metrics.csv", "earlier-2-config.json", "tb/a/b",
     "checkpoints/a.json", "damaged-checkpoints/4/a"],
)  # fmt: skip
def test_a_runs_own_files_are_left_alone(name):
    run = make_run(Path("results/run"))
    Path("link").symlink_to(run)
    for way in (run, "link"):
        with pytest.raises(UserError, match=r"that is of the run in .*results/run: give another name$"):
            check_output("output", f"{way}/{name}")
        with pytest.raises(UserError, match=r"that is of the run in .*results/run: give another name$"):
            make_folder("out", f"{way}/{name}")
    assert [path.name for path in run.iterdir()] == ["config.json"]


def test_beside_a_runs_own_files_there_is_room():
    run = make_run(Path("results/run"))
    for name in ("evaluation.json", "policy.mp4", "my/summary.json", "checkpoints.json"):
        check_output("output", str(run / name))
    check_output("output", "results/summary.json")
    make_folder("out", str(run / "figures"))


def test_two_outputs_are_two_files():
    Path("link.png").symlink_to("a.png")
    for other in ("a.png", "./a.png", "link.png"):
        with pytest.raises(
            UserError, match=r"^--plot and --json are the same file, a\.png: give them two names$"
        ):
            check_outputs_differ({"plot": Path("a.png"), "video": None, "json": Path(other)})
    check_outputs_differ({"plot": Path("a.png"), "json": Path("b.png"), "video": None, "output": None})


def write(path, content=b"new"):
    with writing_output("json", path) as unfinished:
        unfinished.write_bytes(content)


@pytest.mark.parametrize("name", ["a.json", "new/folder/a", "x" * 255])
def test_an_output_appears_alone(name):
    write(Path(name))
    assert Path(name).read_bytes() == b"new"
    assert [path.name for path in Path(name).parent.iterdir()] == [Path(name).name]


def test_a_folder_is_there_whole():
    with writing_output("output", Path("new/set")) as unfinished:
        unfinished.mkdir()
        (unfinished / "a").write_bytes(b"new")
        assert not Path("new/set").exists()
    assert [str(path) for path in Path().rglob("*")] == ["new", "new/set", "new/set/a"]


def test_a_full_disk_leaves_the_old_file():
    path, limits = Path("a.json"), resource.getrlimit(resource.RLIMIT_FSIZE)
    path.write_bytes(b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # of any file, in bytes
    try:
        with pytest.raises(UserError) as error:
            write(path, bytes(200_000))
        with pytest.raises(UserError, match=r"^--json=b\.json: cannot be written: File too large$"):
            write(Path("b.json"), bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    line = "--json=a.json: cannot be written: File too large; the old file is as it was"
    assert str(error.value) == line  # of no run, so there is none to --resume
    assert [found.name for found in Path().iterdir()] == ["a.json"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_file(monkeypatch, call):
    Path("a.json").write_bytes(b"old")

    def refuse(*arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(UserError, match=r"a\.json: cannot be written: Input/output error; the old file"):
        write(Path("a.json"))
    assert [(path.name, path.read_bytes()) for path in Path().iterdir()] == [("a.json", b"old")]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder", "it is a directory"),
        ("file/a.json", "file is not a directory that you may write to"),
        ("x" * 300, "File name too long"),
        ("a.txt", "unknown suffix '.txt'; known: .json, .png"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(name, reason):
    Path("folder").mkdir()
    Path("file").touch()
    with pytest.raises(UserError) as error:
        check_output("json", name, (".json", ".png") if name.endswith(".txt") else ())
    assert str(error.value).startswith(f"--json={name}: ")
    assert str(error.value).endswith(reason)
