"""CSV files after a kill, after a resumption, and digit by digit."""

import csv
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xql_jax.errors import UserError
from xql_jax.logs.csv_logger import CSVLogger

FULL = b"step,seed,loss\n4,1,0.5\n4,2,0.25\n8,1,-2\n8,2,1e-07\n12,1,3\n"
HELD = FULL[:32]  # by the checkpoint of step 4
LATER = ((8, 1, -2.0), (8, 2, 1e-7), (12, 1, 3.0))


def test_header_and_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = CSVLogger(path)
    assert path.read_text() == ""  # a run without rows yet
    logger.write({"step": 4, "seed": 1, "loss": 0.5})
    assert path.read_text() == "step,seed,loss\n4,1,0.5\n"  # whole on disk before the next one
    logger.write({"loss": 1e-7, "seed": 2, "step": 4})  # columns are the header's
    assert path.read_text() == "step,seed,loss\n4,1,0.5\n4,2,1e-07\n"
    assert logger.size == len(path.read_bytes())
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


@pytest.mark.parametrize("length", [0, 3, len(HELD), len(HELD) + 7, len(FULL)])
def test_a_resumed_run_writes_the_later_rows_again(tmp_path, length):
    """Whatever a kill left of the file: later rows, one cut short, or less than the checkpoint has."""
    path = tmp_path / "metrics.csv"
    path.write_bytes(FULL[:length])
    logger = CSVLogger(path, HELD)
    assert path.read_bytes() == HELD
    for step, seed, loss in LATER:
        logger.write({"step": step, "seed": seed, "loss": loss})
    logger.close()
    assert path.read_bytes() == FULL
    path.unlink()
    CSVLogger(path, HELD).close()
    assert path.read_bytes() == HELD


def test_a_file_that_was_edited_is_refused_and_stays(tmp_path):
    path = tmp_path / "metrics.csv"
    edited = FULL.replace(b"0.25", b"0.26")
    path.write_bytes(edited)
    with pytest.raises(UserError, match=r"metrics\.csv: not as the run wrote it"):
        CSVLogger(path, HELD)
    assert path.read_bytes() == edited


@given(st.floats(width=32, allow_nan=False))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_float32_come_back_exactly(number):
    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger(Path(folder) / "metrics.csv")
        logger.write({"step": 1, "x": float(np.float32(number))})
        logger.close()
        [row] = csv.DictReader((Path(folder) / "metrics.csv").open())
    assert np.float32(row["x"]).tobytes() == np.float32(number).tobytes()
