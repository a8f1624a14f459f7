"""The .npz reader: both layouts, and files that are no good."""

import io
import zipfile

import h5py
import numpy as np
import pytest

from xql_jax.data.d4rl_hdf5 import read_hdf5
from xql_jax.data.npz import read_npz
from xql_jax.errors import UserError

ROWS = {
    "observations": np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [12.0]]),
    "actions": np.linspace(-1, 1, 6)[:, None],
    "rewards": np.arange(6),
    "terminals": np.array([0, 0, 0, 0, 1, 0], bool),
}
TRANSITIONS = ROWS | {"next_observations": ROWS["observations"] + 1}


def write(path, arrays):
    np.savez(path, **arrays)
    return path


def without(arrays, key):
    return {name: array for name, array in arrays.items() if name != key}


def test_transitions_come_back_as_they_are(tmp_path):
    dataset = read_npz(write(tmp_path / "data.npz", TRANSITIONS), episode_limit=2)
    for key in ("observations", "actions", "rewards", "next_observations"):
        array = getattr(dataset.batch, key)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, TRANSITIONS[key].astype(np.float32))
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1, 1, 0, 1])
    # 2 -> 3 is followed by 10; 11 -> 12 is terminal.
    np.testing.assert_array_equal(dataset.ends, [0, 0, 1, 0, 1, 1])


def test_masks_stand_for_terminals(tmp_path):
    arrays = without(TRANSITIONS, "terminals") | {"masks": np.array([1, 0, 1, 1, 1, 1])}
    dataset = read_npz(write(tmp_path / "data.npz", arrays), None)
    np.testing.assert_array_equal(dataset.batch.masks, arrays["masks"])
    np.testing.assert_array_equal(dataset.ends, [0, 1, 1, 0, 0, 1])


@pytest.mark.parametrize("key", ["timeouts", "ends"])
def test_marked_ends_are_kept(tmp_path, key):
    arrays = TRANSITIONS | {key: np.arange(6) == 0}
    dataset = read_npz(write(tmp_path / "data.npz", arrays), None)
    np.testing.assert_array_equal(dataset.ends, [1, 0, 1, 0, 1, 1])


@pytest.mark.parametrize(
    ("marks", "kept"),
    [
        ({"timeouts": np.arange(6) == 2}, [0, 1, 3, 4]),
        ({"ends": np.isin(np.arange(6), [2, 4])}, [0, 1, 3, 4]),  # row 4 is terminal: an end, no time-out
        ({}, [0, 1, 3, 4]),  # the limit of 3 steps
    ],
)
def test_rows_become_transitions_as_in_d4rl(tmp_path, marks, kept):
    dataset = read_npz(write(tmp_path / "data.npz", ROWS | marks), episode_limit=3)
    np.testing.assert_array_equal(dataset.batch.rewards, kept)
    np.testing.assert_array_equal(dataset.batch.next_observations[:, 0], [1, 2, 11, 12])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1, 0])


def test_a_last_row_that_is_terminal_stays(tmp_path, caplog):
    """One episode whose only reward is in its last row. In HDF5, D4RL's rule leaves that row out."""
    arrays = ROWS | {"rewards": np.arange(6) == 5, "terminals": np.arange(6) == 5, "timeouts": np.zeros(6)}
    dataset = read_npz(write(tmp_path / "data.npz", arrays), None)
    np.testing.assert_array_equal(dataset.batch.rewards, [0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(dataset.batch.next_observations[:, 0], [1, 2, 10, 11, 12, 12])
    np.testing.assert_array_equal(dataset.ends, [0, 0, 0, 0, 0, 1])
    assert not caplog.records

    with h5py.File(tmp_path / "data.hdf5", "w") as file:
        file.update(arrays)
    assert read_hdf5(tmp_path / "data.hdf5", None).batch.rewards.tolist() == [0] * 5
    assert "every reward that is not 0 (1 rows) is in a row that is left out" in caplog.text

    timeout = arrays | {"timeouts": np.arange(6) == 5}  # as a time-out it goes, terminal or not
    assert read_npz(write(tmp_path / "data.npz", timeout), None).size == 5


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            {"observations": "obs", "terminals": "terminated"},
            "rename obs to observations; rename terminated to",
        ),
        ({"next_observations": "next_obs"}, "rename next_obs to next_observations"),  # else rows were steps
        ({"terminals": "dones"}, "rename dones to terminals if it marks final states"),
    ],
)
def test_other_libraries_names_are_refused_with_the_ones_to_use(tmp_path, names, told):
    path = write(tmp_path / "d.npz", {names.get(key, key): array for key, array in TRANSITIONS.items()})
    with pytest.raises(UserError, match=told) as error:
        read_npz(path, None)
    assert all(key in str(error.value) for key in names)


def test_names_that_are_not_needed_are_let_be(tmp_path):
    beside = {
        "obs": np.zeros(1),
        "terminated": np.zeros(1),
        "ends": np.arange(6) == 2,
        "truncated": np.ones(1),
    }
    masks = {"masks": 1 - ROWS["terminals"]}
    dataset = read_npz(write(tmp_path / "data.npz", without(TRANSITIONS, "terminals") | masks | beside), None)
    np.testing.assert_array_equal(dataset.ends, [0, 0, 1, 0, 1, 1])


def truncated(path):
    path.write_bytes(write(path, ROWS).read_bytes()[:-100])


def flipped(path):
    content = bytearray(write(path, ROWS).read_bytes())
    at = content.index(ROWS["rewards"].tobytes()) + 8
    content[at] ^= 1
    path.write_bytes(content)


def claiming(path, shape):
    """A member whose header claims another shape than its bytes have, and which passes zipfile's checks."""
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(write(path, without(ROWS, "rewards")), "a") as archive:
        archive.writestr("rewards.npy", member.getvalue() + bytes(48))


def lone_array(path):
    with path.open("wb") as file:
        np.save(file, ROWS["observations"])


def deep_header(path, opening):
    """Which NumPy quotes whole."""
    write(path, without(ROWS, "rewards"))
    header = (opening * 6000 + " " * 63)[:6058].encode()
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("rewards.npy", content)


def many_names(path):
    write(path, {f"array\x1b[31m{number}": np.zeros(1) for number in range(500)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: deep_header(path, "("), "not a readable .npz archive"),
        (lambda path: deep_header(path, "["), "not a readable .npz archive"),
        (lambda path: deep_header(path, "{'a':"), "not a readable .npz archive"),
        (lambda path: deep_header(path, "-"), "not a readable .npz archive|damaged"),
        (many_names, "no array observations"),
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a directory, not a file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (truncated, "not a readable .npz archive"),
        (flipped, "not a readable .npz archive.*Bad CRC-32"),
        (lambda path: path.write_text("observations"), "not a readable .npz archive"),
        (lone_array, "a single NumPy array"),
        (
            lambda path: write(path, {"states": np.zeros(3), "rewards": np.zeros(3)}),
            r"no array observations, actions, terminals \(or masks\); there is states, rewards",
        ),
        (lambda path: write(path, without(ROWS, "terminals")), r"no array terminals \(or masks\)"),
        (lambda path: write(path, ROWS | {"rewards": np.array([None] * 6)}), "not a readable"),
        (lambda path: write(path, ROWS | {"rewards": np.zeros(5)}), "rewards and observations disagree"),
        (lambda path: write(path, ROWS | {"actions": np.zeros(6)}), r"actions has shape \(6,\)"),
        (lambda path: write(path, ROWS | {"rewards": np.full(6, np.inf)}), "rewards holds inf at row 0"),
        (lambda path: write(path, ROWS | {"actions": np.array([["a"]] * 6)}), "actions has type <U1"),
        (lambda path: write(path, {key: array[:1] for key, array in ROWS.items()}), "at least 2 rows"),
        (lambda path: write(path, ROWS), "no timeouts, and no task"),
        (lambda path: write(path, ROWS | {"timeouts": np.ones(6)}), "no transition is left"),
        (
            lambda path: write(path, TRANSITIONS | {"masks": np.array([1, 1, 0, 1, 0, 1])}),
            "masks holds 0.0 at row 2",  # the terminal is at row 4 only
        ),
        (
            lambda path: write(path, without(TRANSITIONS, "terminals") | {"masks": np.full(6, 0.5)}),
            "masks holds 0.5 at row 0",
        ),
    ],
)
def test_bad_file_is_one_line_that_names_it(tmp_path, make, message):
    path = tmp_path / "data.npz"
    make(path)
    with pytest.raises(UserError, match=message) as error:
        read_npz(path, episode_limit=None)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value).replace(str(path), "")) < 500
