"""Files with one defect in any array of any format, and damaged files: one line names what is wrong."""

import numpy as np
import pytest
from data_formats import EPISODES, KEYS, arrays_of, read, write
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from xql_jax.errors import UserError

shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

NUMBERS = (np.nan, np.inf, -np.inf, 1e39)  # the last is finite in float64 only
DEFECTS = {
    "a number": lambda array, row, number: put(array.astype(np.float64), row, number),
    "length": lambda array, row, number: array[:-1],
    "rank": lambda array, row, number: np.stack([array, array], -1),
    "no entries": lambda array, row, number: np.zeros((len(array), 0)),
    "none": lambda array, row, number: np.zeros((), array.dtype),
    "words": lambda array, row, number: np.full(array.shape, b"a"),
    "objects": lambda array, row, number: np.full(array.shape, {}, object),
    "missing": None,
}


def put(array, row, number):
    array = array.copy()
    array[row % len(array)] = number
    return array


@st.composite
def one_defect(draw):
    """A format, an array of it, and what is wrong with that."""
    name = draw(st.sampled_from(list(KEYS)))
    key, defect = draw(st.sampled_from(KEYS[name])), draw(st.sampled_from(list(DEFECTS)))
    is_optional = key in ("timeouts", "ends", "next_observations", "masks")
    assume(not (defect == "missing" and (is_optional or (name, key) == ("episodes", "terminals"))))
    assume(not (defect == "objects" and name == "rows.hdf5"))  # which HDF5 cannot hold
    assume(not (defect == "none" and (name, key) == ("episodes", "terminals")))  # one value, for the end
    assume((name, key, defect) != ("episodes", "observations", "length"))  # allowed
    return name, key, defect


@settings(shared, max_examples=150)
@given(which=one_defect(), row=st.integers(0, 99), number=st.sampled_from(NUMBERS))
def test_one_defect_is_one_line_that_names_file_and_key(tmp_path, which, row, number):
    """NaN, infinity, a wrong shape, length or type, a missing key; in any array of any format."""
    name, key, defect = which
    change = DEFECTS[defect]
    arrays, path = arrays_of(name, EPISODES), tmp_path / name
    where, part = ("002.npz", arrays[2]) if name == "episodes" else (str(path), arrays)
    good = part.pop(key)
    if change:
        part[key] = change(good, row, number)
    write(path, arrays)
    with pytest.raises(UserError, match=rf"^[^\n]*{where}[^\n]*$") as error:
        read(path, name)
    if defect in ("words", "missing"):
        assert key in str(error.value)
    if defect == "a number":
        assert f"{key} holds {number if number != 1e39 else np.inf} at row" in str(error.value)


@settings(shared, max_examples=100)
@given(name=st.sampled_from(("rows.npz", "rows.hdf5")), data=st.data())
def test_a_damaged_file_gives_sound_data_or_one_line(tmp_path, name, data):
    """Numbers overwritten or the end cut off, anywhere."""
    path = write(tmp_path / name, arrays_of(name, EPISODES))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(1, len(content) - 1))
    number = data.draw(st.sampled_from((None, 0, 1, 2**31 - 1, 2**40, 2**63 - 1, 2**64 - 1)))
    if number is None:
        del content[place:]
    else:
        content[place : place + 8] = number.to_bytes(8, "little")
    path.write_bytes(content)
    try:
        dataset = read(path)
    except UserError as error:
        message = str(error)
        assert str(path) in message
        return
    assert dataset.ends[-1]
    assert dataset.ends[dataset.batch.masks == 0].all()
    for array in dataset.batch:
        assert array.dtype == np.float32
        assert len(array) == dataset.size > 0
        assert np.isfinite(array).all()
