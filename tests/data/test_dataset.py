"""Where trajectories end, and what `validated` passes and refuses."""

import dataclasses
import hashlib

import numpy as np
import pytest

from xql_jax.data.dataset import (
    ROWS_OF_SAMPLE,
    from_transitions,
    joined,
    validated,
)
from xql_jax.errors import UserError
from xql_jax.types import Batch


def rows(count=4):
    return {
        "observations": np.arange(2.0 * count).reshape(count, 2),
        "actions": np.zeros((count, 1)),
        "rewards": np.arange(count),
        "terminals": np.zeros(count, bool),
    }


def transitions(observations, next_observations, terminals, **more):
    return {
        "observations": np.array(observations, np.float32)[:, None],
        "actions": np.zeros((len(terminals), 1), np.float32),
        "rewards": np.zeros(len(terminals), np.float32),
        "next_observations": np.array(next_observations, np.float32)[:, None],
        "terminals": np.array(terminals, bool),
        **more,
    }


def test_trajectories_end_at_terminals_at_jumps_and_at_the_last_row():
    # 0->1, 1->2 | jump to 7: 7->8 terminal | 8->9: the observation goes on although the episode does not.
    arrays = transitions([0, 1, 7, 8], [1, 2, 8, 9], [0, 0, 1, 0])
    dataset = from_transitions(arrays, "file")
    np.testing.assert_array_equal(dataset.ends, [False, True, True, True])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 0, 1])


@pytest.mark.parametrize(("gap", "ends"), [(5e-7, False), (2e-6, True)])
def test_a_jump_is_farther_than_1e_6(gap, ends):
    dataset = from_transitions(transitions([0, gap], [0, 1], [0, 0]), "file")
    assert dataset.ends[0] == ends


def test_timeouts_end_trajectories_and_leave_masks_alone():
    arrays = transitions([0, 1, 2], [1, 2, 3], [0, 0, 0], timeouts=np.array([0, 1, 0]))
    dataset = from_transitions(arrays, "file")
    np.testing.assert_array_equal(dataset.ends, [False, True, True])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1])


def test_no_transitions_is_an_error():
    with pytest.raises(UserError, match=r"file: no transition is left"):
        from_transitions({key: array[:0] for key, array in transitions([0], [0], [0]).items()}, "file")


def test_sizes():
    dataset = from_transitions(
        {**validated(rows(3), "file"), "next_observations": np.ones((3, 2), np.float32)}, "file"
    )
    assert (dataset.size, dataset.observation_dim, dataset.action_dim) == (3, 2, 1)


def test_validated_casts_and_lays_out_in_rows():
    observations = np.asfortranarray(np.arange(8, dtype=np.int64).reshape(4, 2))
    arrays = validated({**rows(), "observations": observations, "rewards": np.arange(4)[:, None]}, "file")
    np.testing.assert_array_equal(arrays["observations"], observations)
    np.testing.assert_array_equal(arrays["rewards"], [0, 1, 2, 3])  # a column passes for a vector, as in D4RL
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in arrays.values())


def spoilt(key, row, value):
    array = rows()[key].astype(np.float64)
    array[row] = value
    return {key: array}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoilt("observations", 2, np.nan), r"file: observations holds nan at row 2 \(shape \(4, 2\)\)"),
        (spoilt("rewards", [1, 3], np.inf), r"file: rewards holds inf at row 1 \(shape \(4,\)\)"),
        (spoilt("actions", 3, -np.inf), r"file: actions holds -inf at row 3"),
        (
            spoilt("rewards", [1, 3], np.inf),
            r"row 1 \(shape \(4,\)\), and further down: 2 rows in all, 1, 3$",
        ),
        (
            spoilt("rewards", 0, np.nan) | spoilt("actions", 2, np.nan),  # all that is amiss, at once
            r"file: actions holds nan at row 2 \(shape \(4, 1\)\); rewards holds nan at row 0",
        ),
        (spoilt("rewards", 1, 1e39), r"file: rewards holds inf at row 1"),  # finite in float64 only
        (spoilt("terminals", 0, np.nan), r"file: terminals holds nan at row 0"),
        ({"rewards": np.zeros(3)}, r"file: rewards and observations disagree.*\(3,\) and \(4, 2\)"),
        ({"actions": np.zeros((5, 1))}, r"file: actions and observations disagree.*\(5, 1\) and \(4, 2\)"),
        ({"actions": np.zeros(4)}, r"file: actions has shape \(4,\), expected \(rows, entries\)"),
        ({"actions": np.zeros((4, 0))}, r"file: actions has shape \(4, 0\), expected \(rows, entries\)"),
        ({"rewards": np.zeros((4, 2))}, r"file: rewards has shape \(4, 2\), expected \(rows,\)"),
        ({"observations": np.zeros((4, 8, 8))}, r"file: observations has shape \(4, 8, 8\)"),
        ({"rewards": np.float64(1.0)}, r"file: rewards has shape \(\), expected \(rows,\)"),
        ({"rewards": np.array(["a"] * 4)}, r"file: rewards has type <U1, not a real number"),
        ({"rewards": np.zeros(4, complex)}, r"file: rewards has type complex128, not a real number"),
        ({"next_observations": np.zeros((4, 3))}, r"file: next_observations has shape \(4, 3\).*\(4, 2\)"),
        (rows(1), r"file: observations has shape \(1, 2\): at least 2 rows"),
        (rows(0), r"file: observations has shape \(0, 2\): at least 2 rows"),
    ],
)
def test_unfit_arrays_are_refused_by_key_and_row(change, message):
    with pytest.raises(UserError, match=message):
        validated({**rows(), **change}, "file")


def test_of_many_bad_rows_the_first_are_named():
    arrays = rows(40)
    arrays["observations"][5:] = np.nan
    with pytest.raises(UserError, match=r"35 rows in all, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, \.\.\.$"):
        validated(arrays, "file")


def test_one_dataset_joined_is_itself():
    dataset = from_transitions(transitions([0, 1], [1, 2], [0, 0]), "file")
    assert joined([dataset]) is dataset


def test_fingerprint_is_of_size_and_rows():
    arrays = random_transitions(50)
    whole = from_transitions(arrays, "here")
    assert whole.fingerprint() == from_transitions(arrays, "elsewhere").fingerprint()
    for key in ("observations", "rewards", "next_observations"):
        changed = {**arrays, key: arrays[key].copy()}
        changed[key][17] = np.nextafter(changed[key][17], np.float32(9.0))
        assert from_transitions(changed, "here").fingerprint() != whole.fingerprint()
    shorter = {key: array[:-1] for key, array in arrays.items()}
    assert from_transitions(shorter, "here").fingerprint() != whole.fingerprint()


def random_transitions(size):
    generator = np.random.default_rng(0)
    return {
        "observations": generator.normal(size=(size, 3)).astype(np.float32),
        "actions": generator.normal(size=(size, 2)).astype(np.float32),
        "rewards": generator.normal(size=size).astype(np.float32),
        "next_observations": generator.normal(size=(size, 3)).astype(np.float32),
        "terminals": np.zeros(size, bool),
    }


def test_a_fingerprint_of_few_rows_is_what_it_always_was():
    """The fingerprint of up to 16,384 rows stays: runs that others have begun go on."""
    dataset = from_transitions(transitions([0, 1, 7, 8], [1, 2, 8, 9], [0, 0, 1, 0]), "file")
    fields = b"".join(field.tobytes() for field in dataset.batch)
    assert dataset.fingerprint() == hashlib.sha256(b"4" + fields).hexdigest()[:16] == "0c5985957a12d207"


@pytest.fixture(scope="module")
def many():
    rows = 3 * ROWS_OF_SAMPLE + 5
    arrays = transitions(np.arange(rows), np.arange(rows) + 1, np.zeros(rows))
    return from_transitions(arrays, "file")


def changed(dataset, field, row):
    array = getattr(dataset.batch, field).copy()
    array[row] += 1
    return dataclasses.replace(dataset, batch=dataset.batch._replace(**{field: array}))


@pytest.mark.parametrize("field", Batch._fields)
def test_every_row_is_in_a_fingerprint(many, field):
    for row in (1, 2, ROWS_OF_SAMPLE, 40_000, many.size - 1):
        assert changed(many, field, row).fingerprint() != many.fingerprint()


def test_a_fingerprint_is_of_blocks_field_by_field(many):
    digest = hashlib.sha256(str(many.size).encode())
    for start in range(0, many.size, ROWS_OF_SAMPLE):
        for field in many.batch:
            digest.update(field[start : start + ROWS_OF_SAMPLE].tobytes())
    assert many.fingerprint() == digest.hexdigest()[:16]
