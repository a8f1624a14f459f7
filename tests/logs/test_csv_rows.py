"""CSV files after a kill, after a resumption, and digit by digit; what each cell is, and what is damage."""

import numpy as np
import pytest

from xql_jax.errors import UserError
from xql_jax.logs.csv_rows import Row, parse_rows
from xql_jax.training.row_writer import CSVLogger

SETTINGS = ("seed", "beta")
HEADER = b"step,seed,beta,return,diverged_at,seconds\n"


def test_every_float32_that_is_logged_comes_back(tmp_path):
    bits = np.random.default_rng(0).integers(2**32, size=300, dtype=np.uint32)
    numbers = [*bits.view(np.float32), np.float32(0.1), np.float32(-0.0), np.float32(np.inf)]
    logger = CSVLogger(tmp_path / "rows.csv")
    for step, number in enumerate(numbers):
        logger.write({"step": step, "seed": 0, "x": float(number)})
    rows = parse_rows(logger.path.read_bytes(), ["seed"], logger.path)
    found = np.array([row.results["x"] for row in rows], np.float64)
    np.testing.assert_array_equal(found.astype(np.float32), numbers)


def test_a_row_has_step_seed_setting_and_results(tmp_path):
    assert parse_rows(b"", SETTINGS, tmp_path) == parse_rows(HEADER, SETTINGS, tmp_path) == []
    first, second = parse_rows(HEADER + b"10,3,0.5,-1e-3,,2.5\n20,4,2,inf,15,3\n", SETTINGS, tmp_path)
    assert first[:3] == (10, 3, (("beta", 0.5),))
    np.testing.assert_array_equal([*first.results.values()], [-1e-3, np.nan])  # the seconds are no result
    assert second == Row(20, 4, (("beta", 2.0),), {"return": np.inf, "diverged_at": 15.0})


@pytest.mark.parametrize(
    "content",
    [
        b"step,seed,return\n10,3,1\n",
        *(HEADER + row for row in (b"10,3", b"10,3,0.5,1,,2.5,9", b"10.5,3,0.5,1,,2.5", b",3,0.5,1,,2.5")),
        *(HEADER + row for row in (b"10,3,,1,,2.5", b"10,3,0.5,high,,2.5", b"10,3,0.5,\xff,,2.5")),
    ],
)
def test_damage_is_an_error(tmp_path, content):
    with pytest.raises(UserError, match=r"^.*rows\.csv: damaged: [^\n]*$"):
        parse_rows(content + b"\n", SETTINGS, tmp_path / "rows.csv")
