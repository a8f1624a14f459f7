"""CSV files after a kill, after a resumption, and digit by digit."""

import csv
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xql_jax.errors import UserError
from xql_jax.logs import csv_logger
from xql_jax.logs.csv_logger import CSVLogger

FULL = "step,seed,loss\n4,1,0.5\n4,2,0.25\n8,1,-2\n8,2,1e-07\n12,1,3\n"


def resumed(path, step):
    CSVLogger(path, step).close()
    return path.read_text()


def test_header_and_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = CSVLogger(path)
    assert path.read_text() == ""  # a run without rows yet
    logger.write({"step": 4, "seed": 1, "loss": 0.5})
    assert path.read_text() == "step,seed,loss\n4,1,0.5\n"  # whole on disk before the next one
    logger.write({"loss": 1e-7, "seed": 2, "step": 4})  # columns are the header's
    assert path.read_text() == "step,seed,loss\n4,1,0.5\n4,2,1e-07\n"
    logger.close()


def test_a_row_that_lacks_a_column_is_refused(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv")
    logger.write({"step": 4, "loss": 0.5})
    with pytest.raises(KeyError):
        logger.write({"step": 8, "los": 0.5})
    logger.close()


def test_text_with_commas_is_one_cell(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv")
    logger.write({"step": 4, "note": 'a, "b"'})
    logger.close()
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["step", "note"], ["4", 'a, "b"']]


@pytest.mark.parametrize(
    ("step", "expected"),
    [(12, FULL), (11, FULL[:-7]), (8, FULL[:-7]), (7, FULL[:32]), (4, FULL[:32]), (3, FULL[:15]), (0, "")],
)
def test_rows_beyond_the_resume_step_are_dropped(tmp_path, step, expected):
    path = tmp_path / "metrics.csv"
    path.write_text(FULL)
    assert resumed(path, step) == expected


@pytest.mark.parametrize("length", range(len(FULL) + 1))
def test_a_file_cut_anywhere_goes_on_as_if_whole(tmp_path, length):
    """The kill came within a write; the resumed run writes again what came after its checkpoint at step 4."""
    path = tmp_path / "metrics.csv"
    path.write_text(FULL[: max(length, 32)])  # the checkpoint says that the rows up to step 4 are there
    logger = CSVLogger(path, 4)
    for step, seed, loss in ((8, 1, -2.0), (8, 2, 1e-7), (12, 1, 3.0)):
        logger.write({"step": step, "seed": seed, "loss": loss})
    logger.close()
    assert path.read_text() == FULL


@pytest.mark.parametrize("length", range(15))
def test_a_header_cut_short_is_written_again(tmp_path, length):
    path = tmp_path / "metrics.csv"
    path.write_text(FULL[:length])
    logger = CSVLogger(path, 0)
    logger.write({"step": 4, "seed": 1, "loss": 0.5})
    logger.close()
    assert path.read_text() == FULL[:23]


@settings(max_examples=300, deadline=None)
@given(st.floats(width=32))
def test_a_float32_comes_back(number):
    text = csv_logger._text(number)
    back = np.float32(text)
    assert back.tobytes() == np.float32(number).tobytes() or (np.isnan(back) and np.isnan(number))
    assert len(text) <= 15


def test_a_kill_while_resuming_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    path.write_text(FULL)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        CSVLogger(path, 4)
    assert path.read_text() == FULL


DAMAGES = {
    "garbage": (b"4,2,0.25", b"\x00\x01,,,"),
    "not UTF-8": (b"4,2,0.25", b"4,2,0.\xff5"),
    "a cell lost": (b"4,2,0.25", b"4,2"),
    "a cell more": (b"4,2,0.25", b"4,2,0.25,1"),
    "no whole step": (b"4,2,0.25", b"4.,2,0.25"),
    "no step": (b"4,2,0.25", b",2,0.25"),
    "no number": (b"4,2,0.25", b"4,2,0>25"),
    "an open quote": (b"4,2,0.25", b'4,2,"0.25'),
    "a carriage return": (b"4,2,0.25", b"4,2\r0.25"),
    "a blank line": (b"4,2,0.25", b""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_line_that_is_no_row_is_dropped_with_a_warning(tmp_path, caplog, damage):
    path = tmp_path / "metrics.csv"
    damaged = FULL.encode().replace(*DAMAGES[damage])
    assert damaged != FULL.encode()
    path.write_bytes(damaged)
    assert resumed(path, 8) == FULL[:-7].replace("4,2,0.25\n", "")
    aside = tmp_path / "damaged-metrics.csv"
    assert aside.read_bytes() == damaged
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"{path}: 1 damaged line(s) dropped")
    assert aside.name in record.getMessage()
    caplog.clear()
    assert resumed(path, 8) == FULL[:-7].replace("4,2,0.25\n", "")
    assert caplog.messages == []  # it was said once


@pytest.mark.parametrize(
    "content", [b"\x00" * 50 + b"\n", b"\xff\xfe\n4,1,0.5\n", b"seed,step\n1,4\n", b"\n"]
)
def test_a_file_without_its_header_begins_anew(tmp_path, caplog, content):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    logger = CSVLogger(path, 8)
    logger.write({"step": 12, "seed": 1, "loss": 3.0})
    logger.close()
    assert path.read_text() == "step,seed,loss\n12,1,3\n"
    assert (tmp_path / "damaged-metrics.csv").read_bytes() == content
    assert "damaged line(s)" in caplog.text


def test_what_is_whole_warns_of_nothing(tmp_path, caplog):
    text = 'step,loss,note\n4,nan,"a, ""b"""\n8,-inf,c\n12,1e-07,\n'  # and empty cells are cells
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    assert resumed(path, 12) == text
    assert caplog.messages == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_full_disk_is_told(tmp_path):
    logger = CSVLogger(tmp_path / "metrics.csv")
    logger._path, logger._file = tmp_path / "full.csv", open("/dev/full", "w")  # noqa: SIM115
    with pytest.raises(
        UserError, match=r"cannot write .*full.csv: No space left on device; free .* --resume"
    ):
        logger.write({"step": 4})
    with pytest.raises(UserError, match=r"cannot write .*full.csv"):
        logger.close()  # the row is still to be written


def test_sync_reaches_the_disk(tmp_path, monkeypatch):
    logger = CSVLogger(tmp_path / "metrics.csv")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")))
    logger.write({"step": 4})
    assert synced == []  # not at every row
    logger.sync()
    assert synced == [str(tmp_path / "metrics.csv")]
    logger.close()
