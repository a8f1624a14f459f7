"""The inspector at the command line: what it prints and writes, and how it tells of mistakes."""

import json
import os
import subprocess
import sys

import pytest
from main_runs import INSPECT, ROOT, write_dataset


def test_prints_and_writes_what_is_in_two_files(server, tmp_path):
    write_dataset(tmp_path / "a.npz")  # 120 rows, each 40th a time-out and the last unused: 117 transitions
    write_dataset(tmp_path / "b.hdf5", size=81)
    arguments = [
        "--env_name=pointmaze-umaze-v0", "--dataset=a.npz", "--dataset=b.hdf5", "--plot=new/a.png",
        "--json=a.json",
    ]  # fmt: skip
    outcome = server.run(arguments, tmp_path, main=INSPECT)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(
        "a.npz, b.hdf5\n  transitions   195: observations of 4 entries, actions of 2\n"
    )
    assert "\n  trajectories  5: 0 end in a terminal, 5 are cut off" in outcome.out
    assert outcome.out.endswith("  written: new/a.png\n  written: a.json\n")
    assert (tmp_path / "new" / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert (numbers["transitions"], numbers["lengths"]["most"]) == (195, 39)


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_written_before(tmp_path):
    write_dataset(tmp_path / "a.npz")
    for name in ("a.png", "a.json"):
        (tmp_path / name).write_text("before")
    limited = 'ulimit -f 1; exec "$0" "$@"'  # no file beyond a block of 1,024 bytes
    for flag in ("--plot=a.png", "--json=a.json"):
        command = ["bash", "-c", limited, sys.executable, str(INSPECT), "--dataset=a.npz", flag]
        run = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert run.returncode == 2
        assert run.stderr == f"error: {flag}: cannot be written: File too large; the old file is as it was\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.npz", "a.png"]
    assert (tmp_path / "a.png").read_text() == (tmp_path / "a.json").read_text() == "before"


def test_a_name_between_dollars_is_drawn(server, tmp_path):
    write_dataset(tmp_path / r"$\foo$.npz")
    outcome = server.run([r"--dataset=$\foo$.npz", "--plot=a.png"], tmp_path, main=INSPECT)
    assert (outcome.code, outcome.err) == (0, "")
    assert (tmp_path / "a.png").is_file()
