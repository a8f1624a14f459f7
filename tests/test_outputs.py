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


@pytest.mark.parametrize(
    "name", ["data.npz", "./data.npz", "sub/../data.npz", "link.npz", "hard.npz", "~/data.npz"]
)
def test_an_input_is_not_written_over(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("data.npz").write_text("precious")
    Path("sub").mkdir()
    Path("link.npz").symlink_to("data.npz")
    os.link("data.npz", "hard.npz")
    with pytest.raises(UserError, match=r"^--json=.*npz: that is an input, .*data\.npz: give another name$"):
        check_output("json", name, inputs=[tmp_path / "data.npz"])
    assert check_output("json", "other.npz", inputs=["data.npz"]) == Path("other.npz")
    assert Path("data.npz").read_text() == "precious"


def test_what_is_not_there_yet_may_be_an_input(tmp_path):
    """The task's own file, which is still to be downloaded."""
    Path("cache").symlink_to("elsewhere")
    Path("elsewhere").mkdir()
    with pytest.raises(UserError, match="that is an input"):
        check_output("json", "cache/task.hdf5", inputs=[tmp_path / "elsewhere" / "task.hdf5"])


def test_an_inputs_folder_is_left_alone():
    Path("episodes").mkdir()
    Path("link").symlink_to("episodes")
    for name in ("episodes/a.json", "episodes/new/a.json", "link/a.json"):
        with pytest.raises(UserError, match="in the folder of an input, episodes"):
            check_output("json", name, inputs=["episodes"])
    check_output("json", "episodes.json", inputs=["episodes"])


OWN = ("config.json", "metrics.csv", "evaluations.csv", "bellman_errors.csv", "summary.json",
       "preprocessing.json", "learning_curve.png", "learning_curve.svg", "maze.png", "maze.svg", ".lock",
       "metrics.csv.tmp",
       "damaged-metrics.csv", "earlier-2-config.json", "checkpoints/a.json", "replay/0/rows", "tb/a/b",
       "damaged-checkpoints/4/a")  # fmt: skip


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("way", ["results/run", "link"])
def test_a_runs_own_files_are_left_alone(name, way):
    run = make_run(Path("results/run"))
    Path("link").symlink_to(run)
    with pytest.raises(UserError, match=r"that is of the run in .*results/run: give another name$"):
        check_output("output", f"{way}/{name}")


def test_beside_a_runs_own_files_there_is_room():
    run = make_run(Path("results/run"))
    for name in ("evaluation.json", "policy.mp4", "my/summary.json", "checkpoints.json"):
        check_output("output", str(run / name))
    check_output("output", "results/summary.json")
    make_folder("out", str(run / "figures"))


def test_a_link_to_a_runs_own_file_is_refused():
    run = make_run(Path("run"))
    Path("link.json").symlink_to(run / "config.json")
    with pytest.raises(UserError, match="that is of the run"):
        check_output("output", "link.json")


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/pictures", "tb", "damaged-checkpoints"])
def test_a_folder_of_outputs_is_not_a_runs_own(name):
    with pytest.raises(UserError, match=r"--out=run/.* that is of the run in "):
        make_folder("out", str(make_run(Path("run")) / name))
    assert [path.name for path in Path("run").iterdir()] == ["config.json"]


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


@pytest.mark.parametrize("name", ["a.json", "new/folder/a", "x" * 255, "é" * 127])
def test_an_output_appears_alone(name):
    write(Path(name))
    assert Path(name).read_bytes() == b"new"
    assert [path.name for path in Path(name).parent.iterdir()] == [Path(name).name]


def test_names_with_the_same_beginning_do_not_meet():
    first, second = (Path(f"eval_halfcheetah-medium-replay-v2_xql_seed_{seed}.json") for seed in (0, 1))
    with writing_output("json", first) as unfinished:
        unfinished.write_bytes(b"0")
        write(second, b"1")
    assert (first.read_bytes(), second.read_bytes()) == (b"0", b"1")


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
        ("folder", "it is a directory, not a file"),
        ("/dev/null", "it is a device, not a file"),
        ("file/a.json", "file is not a directory"),
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
