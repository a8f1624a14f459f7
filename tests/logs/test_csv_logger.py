"""CSV files after a kill, after a resumption, after damage, and digit by digit."""

import csv
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xql_jax.errors import UserError
from xql_jax.logs import csv_logger
from xql_jax.logs.csv_logger import CSVLogger

FULL = b"step,seed,loss\n4,1,0.5\n4,2,0.25\n8,1,-2\n8,2,1e-07\n12,1,3\n"
HELD = FULL[:32]  # by the checkpoint of step 4
LATER = ((8, 1, -2.0), (8, 2, 1e-7), (12, 1, 3.0))


def finish(logger):
    for step, seed, loss in LATER:
        logger.write({"step": step, "seed": seed, "loss": loss})
    logger.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_header_and_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = CSVLogger(path)
    assert path.read_text() == ""  # a run without rows yet
    logger.write({"step": 4, "seed": 1, "loss": 0.5})
    assert path.read_text() == "step,seed,loss\n4,1,0.5\n"  # whole on disk before the next one
    logger.write({"loss": 1e-7, "seed": 2, "step": 4})  # columns are the header's
    assert path.read_text() == "step,seed,loss\n4,1,0.5\n4,2,1e-07\n"
    logger.close()


@pytest.mark.parametrize("row", [{"step": 8, "los": 0.5}, {"step": 8}, {"step": 8, "loss": 1.0, "x": 2.0}])
def test_a_row_of_other_columns_is_refused(tmp_path, row):
    logger = CSVLogger(tmp_path / "metrics.csv", b"step,loss\n4,0.5\n")
    with pytest.raises(UserError, match=r"metrics\.csv: its rows were begun with other columns"):
        logger.write(row)
    logger.close()


def test_text_with_commas_is_one_cell(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv")
    logger.write({"step": 4, "note": 'a, "b"'})
    logger.close()
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["step", "note"], ["4", 'a, "b"']]


def test_rows_given_to_a_checkpoint_are_those_until_then(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv", HELD)
    first = logger.rows()
    logger.write({"step": 8, "seed": 1, "loss": -2.0})
    second = logger.rows()
    logger.write({"step": 8, "seed": 2, "loss": 1e-7})
    assert b"".join(first) == HELD
    assert b"".join(second) == HELD + b"8,1,-2\n"
    assert b"".join(logger.rows()) == (tmp_path / "metrics.csv").read_bytes()
    logger.close()


@pytest.mark.parametrize("length", range(len(HELD), len(FULL) + 1))
def test_a_file_that_a_kill_left_goes_on_as_if_whole(tmp_path, caplog, length):
    """The kill came within a write; the resumed run writes again what came after its checkpoint at step 4."""
    path = tmp_path / "metrics.csv"
    path.write_bytes(FULL[:length])
    logger = CSVLogger(path, HELD)
    assert path.read_bytes() == HELD
    finish(logger)
    assert path.read_bytes() == FULL
    assert caplog.messages == []
    assert names(tmp_path) == ["metrics.csv"]


def damaged(generator):
    """FULL after something happened to what the checkpoint has: flipped, cut, doubled, or lost."""
    at, kind = generator.randrange(len(HELD)), generator.randrange(4)
    if kind == 0:
        return FULL[:at] + bytes([FULL[at] ^ 1 << generator.randrange(8)]) + FULL[at + 1 :]
    if kind == 1:
        return FULL[:at]
    if kind == 2:
        return FULL[: at + 1] * 2 + FULL[at + 1 :]
    return FULL[:at] + FULL[at + 1 + generator.randrange(30) :]


@pytest.mark.parametrize("seed", range(60))
def test_damage_costs_nothing_and_is_told_once(tmp_path, caplog, seed):
    path, content = tmp_path / "metrics.csv", damaged(random.Random(seed))
    path.write_bytes(content)
    finish(CSVLogger(path, HELD))
    assert path.read_bytes() == FULL
    if content.startswith(HELD):  # doubled from the end on: rows after the checkpoint, as a kill leaves them
        return
    assert (tmp_path / "damaged-metrics.csv").read_bytes() == content
    assert caplog.messages == [f"{path}: not as the run wrote it; the file as it was is damaged-metrics.csv"]
    path.write_bytes(content)  # once more
    finish(CSVLogger(path, HELD))
    assert (tmp_path / "damaged-2-metrics.csv").read_bytes() == content
    assert (tmp_path / "damaged-metrics.csv").read_bytes() == content


@pytest.mark.parametrize("kind", ["pipe", "link to nowhere", "folder", "link to a file"])
def test_what_is_no_file_is_set_aside(tmp_path, kind):
    path, other = tmp_path / "metrics.csv", tmp_path / "other"
    other.write_bytes(b"somebody's")
    {
        "pipe": lambda: os.mkfifo(path),
        "link to nowhere": lambda: path.symlink_to("nowhere"),
        "folder": path.mkdir,
        "link to a file": lambda: path.symlink_to(other),
    }[kind]()
    finish(CSVLogger(path, HELD))
    assert path.read_bytes() == FULL
    assert os.path.lexists(tmp_path / "damaged-metrics.csv")
    assert other.read_bytes() == b"somebody's"


def test_a_run_that_begins_anew_keeps_the_rows_that_were_there(tmp_path, caplog):
    path = tmp_path / "metrics.csv"
    path.write_bytes(FULL)
    logger = CSVLogger(path)
    assert path.read_bytes() == b""
    logger.close()
    assert (tmp_path / "earlier-metrics.csv").read_bytes() == FULL
    (line,) = caplog.messages
    assert line == f"{path}: no checkpoint goes with it, the run begins anew; it is now earlier-metrics.csv"


def test_a_checkpoint_without_rows_makes_nothing_of_later_ones(tmp_path, caplog):
    path = tmp_path / "metrics.csv"
    path.write_bytes(FULL)
    CSVLogger(path, b"").close()
    assert path.read_bytes() == b""
    assert (names(tmp_path), caplog.messages) == (["metrics.csv"], [])


@pytest.mark.parametrize("length", range(14))
def test_a_header_cut_short_is_written_again(tmp_path, length):
    path = tmp_path / "metrics.csv"
    path.write_bytes(FULL[:length])
    logger = CSVLogger(path)
    logger.write({"step": 4, "seed": 1, "loss": 0.5})
    logger.close()
    assert path.read_bytes() == FULL[:23]
    assert names(tmp_path) == ["metrics.csv"]


def test_what_happens_to_the_file_during_the_run_is_mended(tmp_path, caplog):
    path = tmp_path / "metrics.csv"
    logger = CSVLogger(path, HELD)
    logger.mend()
    assert caplog.messages == []
    os.truncate(path, 20)
    logger.write({"step": 8, "seed": 1, "loss": -2.0})
    logger.mend()
    logger.close()
    assert path.read_bytes() == HELD + b"8,1,-2\n"
    assert (tmp_path / "damaged-metrics.csv").read_bytes() == FULL[:20] + b"8,1,-2\n"
    assert len(caplog.messages) == 1
    path.unlink()
    logger.mend()
    assert path.read_bytes() == HELD + b"8,1,-2\n"


def test_a_folder_that_was_moved_is_told(tmp_path):
    (tmp_path / "run").mkdir()
    logger = CSVLogger(tmp_path / "run" / "metrics.csv")
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"cannot write .*run/metrics\.csv: No such file or directory"):
        logger.mend()
    logger.close()


@settings(max_examples=300, deadline=None)
@given(st.floats(width=32))
def test_a_float32_comes_back(number):
    text = csv_logger._text(number)
    back = np.float32(text)
    assert back.tobytes() == np.float32(number).tobytes() or (np.isnan(back) and np.isnan(number))
    assert len(text) <= 15


def test_a_kill_while_resuming_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    path.write_bytes(FULL)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        CSVLogger(path, HELD)
    assert path.read_bytes() == FULL


def test_a_full_disk_is_told(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv")
    logger.path, logger._file = tmp_path / "full.csv", open("/dev/full", "wb")  # noqa: SIM115
    with pytest.raises(
        UserError, match=r"cannot write .*full.csv: No space left on device; free .* --resume"
    ):
        logger.write({"step": 4})
    with pytest.raises(UserError, match=r"cannot write .*full.csv"):
        logger.close()  # the row is still to be written
