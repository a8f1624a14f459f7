"""Rows read from CSV files: what each cell is, as the columns are declared, and what is damage."""

import numpy as np
import pytest

from xql_jax.errors import UserError
from xql_jax.logs.csv_logger import CSVLogger
from xql_jax.logs.csv_reader import Columns, Row, parse_rows

COLUMNS = Columns.of(["beta"])
HEADER = b"step,seed,beta,return,diverged_at,seconds\n"


def read(tmp_path, content, columns=COLUMNS):
    return parse_rows(content, columns, tmp_path / "rows.csv")


def test_a_row_says_when_whose_and_what(tmp_path):
    first, second = read(tmp_path, HEADER + b"10,3,0.5,-1e-3,,2.5\n20,4,2,inf,15,3\n")
    assert first[:3] == (10, 3, (("beta", 0.5),))
    assert list(first.results) == ["return", "diverged_at"]  # the seconds are no result
    np.testing.assert_array_equal(list(first.results.values()), [-1e-3, np.nan])
    assert second == Row(20, 4, (("beta", 2.0),), {"return": np.inf, "diverged_at": 15.0})


def test_columns_are_what_they_are_declared_not_what_they_are_called(tmp_path):
    """A hyperparameter may have the name of a result."""
    columns = Columns(("step", "return"), ("seed", "error"))
    assert read(tmp_path, b"step,seed,error,return,seconds\n1,0,7,8,9\n", columns) == [
        Row(1, 0, (("error", 7.0),), {"seconds": 9.0})
    ]


@pytest.mark.parametrize("content", [b"", HEADER])
def test_no_row(tmp_path, content):
    assert read(tmp_path, content) == []


@pytest.mark.parametrize(
    "row",
    [
        b"10,3",
        b"10,3,0.5,1,,2.5,9",
        b"10.5,3,0.5,1,,2.5",
        b",3,0.5,1,,2.5",
        b"10,3,,1,,2.5",
        b"10,3,0.5,high,,2.5",
        b'10,3,0.5,"1,,2.5',
        b"10,3,0.5,\xff,,2.5",
    ],
)
def test_damage_is_told(tmp_path, row):
    with pytest.raises(UserError, match=r"^.*rows\.csv: damaged: ") as error:
        read(tmp_path, HEADER + row + b"\n")
    assert "\n" not in str(error.value)


def test_a_declared_column_that_is_missing_is_told(tmp_path):
    with pytest.raises(UserError, match=r"rows\.csv: damaged: KeyError: 'beta'"):
        read(tmp_path, b"step,seed,return\n10,3,1\n")


def test_a_column_that_is_there_twice_is_told(tmp_path):
    with pytest.raises(UserError, match=r"rows\.csv: damaged: ValueError: a column twice"):
        read(tmp_path, b"step,seed,beta,return,return\n10,3,1,2,3\n")


def test_every_float32_that_is_logged_comes_back(tmp_path):
    bits = np.random.default_rng(0).integers(2**32, size=300, dtype=np.uint32)
    numbers = [*bits.view(np.float32), np.float32(0.1), np.float32(-0.0), np.float32(np.inf)]
    logger = CSVLogger(tmp_path / "rows.csv")
    for step, number in enumerate(numbers):
        logger.write({"step": step, "seed": 0, "x": float(number)})
    logger.close()
    rows = parse_rows(logger.path.read_bytes(), Columns.of([]), logger.path)
    found = np.array([row.results["x"] for row in rows], np.float64)
    np.testing.assert_array_equal(found.astype(np.float32), numbers)
