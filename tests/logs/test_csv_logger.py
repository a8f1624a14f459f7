"""CSV files after a kill, after a resumption, and digit by digit."""

import csv
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xql_jax.logs import csv_logger
from xql_jax.logs.csv_logger import CSVLogger, write_atomically

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


def test_readers_see_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    path.write_text("old")
    replace = os.replace

    def kill_before_renaming(source, target):
        assert (path.read_text(), source.read_text()) == (
            "old",
            "new",
        )  # all of it is there before the name changes
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", kill_before_renaming)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    monkeypatch.setattr(os, "replace", replace)
    write_atomically(path, "newer")
    assert path.read_text() == "newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_a_kill_while_resuming_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    path.write_text(FULL)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        CSVLogger(path, 4)
    assert path.read_text() == FULL
