"""Data that is not as it should be, at the real command lines that read it."""

import gzip
import io
import json
import shutil
import zipfile

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from main_runs import contents, write_dataset
from mistakes import assert_told

ROWS = 120

# By name: what --dataset is told, and what the message must say. Two mains read alike.
SOURCES = {
    # any file
    "no such file": ("nowhere/a.hdf5", "nowhere/a.hdf5", "no such file"),
    "no file's name": ("{folder}", ".npz"),
    "unknown suffix": ("data.csv", "data.csv", "'.csv'", ".hdf5", ".npz"),
    "no suffix": ("data", "data", "suffix", ".hdf5"),
    "empty file": ("empty.hdf5", "empty.hdf5", "empty"),
    "empty archive": ("empty.npz", "empty.npz", "empty"),
    "a directory for a file": ("folder.hdf5", "folder.hdf5", ".npz", "directory"),
    "a file for a directory": ("good.hdf5/a.npz", "good.hdf5/a.npz", "no such file"),
    "a link to nothing": ("broken.hdf5", "broken.hdf5", "no such file"),
    "a link to itself": ("loop.npz", "loop.npz"),
    "a device": ("device.npz", "device.npz", "no such file"),
    "a name that is too long": ("{long}.npz", "too long"),
    "an unknown kind of source": ("mirari:D4RL/door/human-v2", "mirari:", "minari:ID"),
    # HDF5
    "truncated HDF5": ("truncated.hdf5", "truncated.hdf5", "not a readable HDF5 file"),
    "text for HDF5": ("text.hdf5", "text.hdf5", "not a readable HDF5 file"),
    "npz for HDF5": ("npz.hdf5", "npz.hdf5", "not a readable HDF5 file"),
    "zipped HDF5": ("zipped.hdf5", "zipped.hdf5", "not a readable HDF5 file"),
    "HDF5 without arrays": ("nothing.hdf5", "nothing.hdf5", "holds nothing"),
    "missing keys": ("missing.hdf5", "missing.hdf5", "actions, rewards", "observations"),
    "groups for arrays": ("groups.hdf5", "groups.hdf5", "no array rewards"),
    "a link within that leads nowhere": ("dangling.hdf5", "dangling.hdf5"),
    "an array without a shape": ("null.hdf5", "null.hdf5", "rewards", "not a real number"),
    "flipped bytes in a compressed chunk": ("chunk.hdf5", "chunk.hdf5", "not a readable HDF5 file"),
    # npz
    "truncated npz": ("truncated.npz", "truncated.npz", "not a readable .npz"),
    "HDF5 for npz": ("hdf5.npz", "hdf5.npz", "not a readable .npz"),
    "one array for an archive": ("single.npz", "single.npz", "a single NumPy array"),
    "flipped byte in an array": ("flipped.npz", "flipped.npz", "not a readable .npz"),
    "missing key of npz": ("missing.npz", "missing.npz", "rewards", "observations"),
    "neither terminals nor masks": ("endless.npz", "endless.npz", "terminals (or masks)"),
    "Python objects": ("objects.npz", "objects.npz", "allow_pickle"),
    "a header that lies": ("lies.npz", "lies.npz"),
    "masks that are neither 0 nor 1": ("masks.npz", "masks.npz", "masks", "0.5", "row 3"),
    "masks against terminals": ("contradiction.npz", "contradiction.npz", "masks", "terminals", "row 0"),
    # arrays
    "lengths": ("lengths.hdf5", "lengths.hdf5", "rewards", "(119,)", "(120, 4)"),
    "NaN": ("nan.hdf5", "nan.hdf5", "observations", "nan", "row 77"),
    "infinity": ("inf.hdf5", "inf.hdf5", "observations", "inf", "row 77"),
    "beyond float32": ("large.npz", "large.npz", "rewards", "inf", "row 5"),
    "words for numbers": ("words.npz", "words.npz", "rewards", "number"),
    "complex numbers": ("complex.npz", "complex.npz", "actions", "complex128"),
    "dates": ("dates.npz", "dates.npz", "rewards", "datetime64"),
    "flat observations": ("flat.npz", "flat.npz", "observations", "(120,)", "(rows, entries)"),
    "pictures for observations": ("pictures.npz", "pictures.npz", "observations", "(120, 8, 8, 3)"),
    "rewards of two columns": ("columns.npz", "columns.npz", "rewards", "(120, 2)"),
    "a scalar": ("scalar.npz", "scalar.npz", "rewards", "()"),
    "no columns": ("narrow.npz", "narrow.npz", "actions", "(120, 0)"),
    "no rows": ("none.npz", "none.npz", "2 rows"),
    "one row": ("one.npz", "one.npz", "at least 2 rows"),
    "nothing but time-outs": ("timeouts.npz", "timeouts.npz", "no transition"),
    # episodes in a folder
    "folder without episodes": ("episodes_none", "episodes_none", "no .npz"),
    "an episode without rewards": ("episodes_missing", "b.npz", "rewards"),
    "an episode that is damaged": ("episodes_damaged", "b.npz", "not a readable .npz"),
    "an episode of another size": ("episodes_sizes", "episodes_sizes", "observations", "4", "5"),
    "an episode that ends twice": ("episodes_twice", "b.npz", "more than once", "terminated"),
    "an episode of other lengths": ("episodes_lengths", "b.npz", "rewards"),
    "Minari's folder without its name": ("minari/mine/maze-v0", "minari:"),
    # OGBench
    "OGBench's without rewards": ("ogbench:unrewarded.npz", "unrewarded.npz", "rewards", "singletask"),
    "OGBench's that is not there": ("ogbench:nowhere.npz", "nowhere.npz", "no such file"),
    "OGBench's as a plain file": ("ogbench.npz", "ogbench.npz", "ogbench:"),
    "OGBench's without a name": ("ogbench:", "ogbench:", "FILE.npz"),
    # Minari
    "Minari's that is not there": ("minari:no/such-v0", "no/such-v0", "minari download no/such-v0"),
    "Minari's misspelt": ("minari:mine/mase-v0", "mine/mase-v0", "mine/maze-v0"),
    "Minari's without a name": ("minari:", "minari:", "minari:ID"),
    "a folder that is not Minari's": ("minari:episodes_none", "episodes_none", "metadata.json"),
    "Minari's with damaged metadata": ("minari:mine/metadata-v0", "mine/metadata-v0", "cannot open"),
    "Minari's without arrays": ("minari:mine/arrayless-v0", "mine/arrayless-v0"),
    "Minari's with damaged arrays": ("minari:mine/damaged-v0", "mine/damaged-v0"),
    "Minari's with actions to choose from": ("minari:mine/discrete-v0", "action space", "Discrete(3)"),
}

# Data and environment, and several sources.
TOGETHER = {
    "observations of another size": (
        "train --dataset=five.hdf5", "five.hdf5", "observations", "5", "4", "pointmaze-umaze-v0"
    ),
    "actions of another size": (
        "train --dataset=three.npz", "three.npz", "actions", "3", "2", "pointmaze-umaze-v0"
    ),
    "data of another task": (
        "train --env_name=kitchen-mixed-v0 --config={configs}/kitchen_config.py --dataset=good.hdf5",
        "good.hdf5", "observations", "4", "60", "kitchen-mixed-v0",
    ),
    "sources of two sizes": (
        "inspect --dataset=good.hdf5 --dataset=five.hdf5", "do not fit together", "good.hdf5", "five.hdf5"
    ),
    "a bad one among good ones": (
        "train --dataset=good.hdf5 --dataset=nan.hdf5 --dataset=good.hdf5", "nan.hdf5", "row 77"
    ),
    "the report among a dataset's files": (
        "inspect --dataset=minari:mine/maze-v0 --json=minari/mine/maze-v0/data/metadata.json",
        "that is in the folder of an input", "mine/maze-v0",
    ),
    "no time-outs and no task": ("inspect --dataset=untimed.npz", "untimed.npz", "timeouts", "limit"),
    "returns that span nothing": (
        "train --env_name=hopper-medium-v2 --config={configs}/mujoco_config.py --dataset=equal.npz",
        "equal.npz", "range of returns", "trajectories return",
    ),
    "windows of rows that are no trajectories": (
        "train --config={configs}/pointmaze_config.py:dt --dataset=loose.npz", "loose.npz", "no two rows"
    ),
    "windows of rows without an end": (
        "train --config={configs}/pointmaze_config.py:dt --dataset=unended.npz", "unended.npz", "timeouts"
    ),
}  # fmt: skip

MISTAKES = {
    **{f"{name}: {main}": (f"{main} --dataset={source}", *words)
       for main in ("bare", "inspect") for name, (source, *words) in SOURCES.items()},
    **TOGETHER,
}  # fmt: skip


def write_files(folder):
    good, whole = (folder / "good.hdf5").read_bytes(), write_dataset(folder / "good.npz").read_bytes()
    (folder / "data.csv").write_text("1,2\n")
    (folder / "data").write_text("1,2\n")
    for name in ("empty.hdf5", "empty.npz"):
        (folder / name).touch()
    (folder / "folder.hdf5").mkdir()
    (folder / "broken.hdf5").symlink_to("nothing.anywhere")
    (folder / "loop.npz").symlink_to("loop.npz")
    (folder / "device.npz").symlink_to("/dev/null")
    write_hdf5_files(folder, good, whole)
    write_archives(folder, good, whole)
    write_arrays(folder)
    write_episodes(folder)
    write_minari(folder / "minari")


def write_hdf5_files(folder, good, whole):
    (folder / "truncated.hdf5").write_bytes(good[: len(good) // 2])
    (folder / "text.hdf5").write_text("not HDF5 at all\n")
    (folder / "npz.hdf5").write_bytes(whole)
    (folder / "zipped.hdf5").write_bytes(gzip.compress(good))
    h5py.File(folder / "nothing.hdf5", "w").close()
    write_dataset(folder / "missing.hdf5", actions=None, rewards=None)
    for name in ("groups", "dangling", "null", "chunk"):
        write_dataset(folder / f"{name}.hdf5", rewards=None)
    with h5py.File(folder / "groups.hdf5", "a") as file:
        file.create_group("rewards")
    with h5py.File(folder / "dangling.hdf5", "a") as file:
        file["rewards"] = h5py.ExternalLink("nowhere.hdf5", "rewards")
    with h5py.File(folder / "null.hdf5", "a") as file:
        file["rewards"] = h5py.Empty("f4")
    with h5py.File(folder / "chunk.hdf5", "a") as file:
        rewards = file.create_dataset("rewards", data=np.arange(120.0), chunks=(120,), compression="gzip")
        offset, size = rewards.id.get_chunk_info(0).byte_offset, rewards.id.get_chunk_info(0).size
    damaged = bytearray((folder / "chunk.hdf5").read_bytes())
    damaged[offset + 2 : offset + size] = bytes(size - 2)
    (folder / "chunk.hdf5").write_bytes(damaged)


def write_archives(folder, good, whole):
    (folder / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "hdf5.npz").write_bytes(good)
    with (folder / "single.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    flipped = bytearray(whole)
    flipped[len(flipped) // 4] ^= 255
    (folder / "flipped.npz").write_bytes(flipped)
    write_dataset(folder / "missing.npz", rewards=None)
    write_dataset(folder / "endless.npz", terminals=None)
    write_dataset(folder / "objects.npz", rewards=np.array([{}] * ROWS))
    masks = np.ones(ROWS)
    masks[3] = 0.5
    write_dataset(folder / "masks.npz", terminals=None, masks=masks)
    write_dataset(folder / "contradiction.npz", masks=np.zeros(ROWS))
    write_dataset(folder / "lies.npz", rewards=None)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**9,)})
    with zipfile.ZipFile(folder / "lies.npz", "a") as archive:
        archive.writestr("rewards.npy", header.getvalue() + bytes(480))
    write_dataset(folder / "fortran.npz", observations=np.asfortranarray(np.zeros((ROWS, 4))))


def write_arrays(folder):
    write_dataset(folder / "lengths.hdf5", rewards=np.zeros(119))
    observations = np.zeros((ROWS, 4), np.float32)
    for name, number in (("nan", np.nan), ("inf", np.inf)):
        observations[77, 2] = number
        write_dataset(folder / f"{name}.hdf5", observations=observations)
    write_dataset(folder / "large.npz", rewards=np.where(np.arange(ROWS) == 5, 1e39, 0.0))
    write_dataset(folder / "five.hdf5", observations=np.zeros((ROWS, 5)))
    write_dataset(folder / "three.npz", actions=np.zeros((ROWS, 3)))
    write_dataset(folder / "words.npz", rewards=np.array(["high"] * ROWS))
    write_dataset(folder / "complex.npz", actions=np.zeros((ROWS, 2), complex))
    write_dataset(folder / "dates.npz", rewards=np.zeros(ROWS, "datetime64[s]"))
    write_dataset(folder / "flat.npz", observations=np.zeros(ROWS))
    write_dataset(folder / "pictures.npz", observations=np.zeros((ROWS, 8, 8, 3), np.uint8))
    write_dataset(folder / "columns.npz", rewards=np.zeros((ROWS, 2)))
    write_dataset(folder / "scalar.npz", rewards=np.float32(0))
    write_dataset(folder / "narrow.npz", actions=np.zeros((ROWS, 0)))
    write_dataset(folder / "none.npz", size=0)
    write_dataset(folder / "one.npz", size=1)
    write_dataset(folder / "timeouts.npz", timeouts=np.ones(ROWS, bool))
    write_dataset(folder / "untimed.npz", timeouts=None)
    write_dataset(folder / "unended.npz", timeouts=np.zeros(ROWS, bool))
    write_dataset(folder / "loose.npz", next_observations=np.full((ROWS, 4), 9.0))
    write_dataset(
        folder / "equal.npz", observations=np.zeros((ROWS, 11)), actions=np.zeros((ROWS, 3)),
        rewards=np.zeros(ROWS),
    )  # fmt: skip
    write_dataset(folder / "unrewarded.npz", rewards=None)
    write_dataset(folder / "ogbench.npz", timeouts=None, qpos=np.zeros((ROWS, 2)))


def write_episodes(folder):
    episode = {"observations": np.zeros((5, 4)), "actions": np.zeros((4, 2)), "rewards": np.zeros(4)}
    changes = {
        "missing": {"rewards": None},
        "damaged": {},
        "sizes": {"observations": np.zeros((5, 5))},
        "twice": {"terminals": np.zeros(4), "terminated": np.zeros(4)},
        "lengths": {"rewards": np.zeros(3)},
    }
    (folder / "episodes_none").mkdir()
    for name, changed in changes.items():
        place = folder / f"episodes_{name}"
        place.mkdir()
        np.savez(place / "a.npz", **episode)
        arrays = {**episode, **changed}
        np.savez(place / "b.npz", **{key: array for key, array in arrays.items() if array is not None})
    damaged = folder / "episodes_damaged" / "b.npz"
    damaged.write_bytes(damaged.read_bytes()[:99])


def write_minari(root):
    box = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    actions = {
        "maze": gymnasium.spaces.Box(-1, 1, (2,), np.float32),
        "discrete": gymnasium.spaces.Discrete(3),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        for name, space in actions.items():
            buffer = minari.data_collector.EpisodeBuffer(
                observations=np.zeros((5, 4), np.float32), actions=np.array([space.sample()] * 4),
                rewards=[0.0] * 4, terminations=[False] * 4, truncations=[False] * 3 + [True], infos={},
            )  # fmt: skip
            minari.create_dataset_from_buffers(
                f"mine/{name}-v0", [buffer], observation_space=box, action_space=space
            )
    for name in ("metadata", "arrayless", "damaged"):
        shutil.copytree(root / "mine" / "maze-v0", root / "mine" / f"{name}-v0")
    (root / "mine" / "metadata-v0" / "data" / "metadata.json").write_text("{")
    (root / "mine" / "arrayless-v0" / "data" / "main_data.hdf5").unlink()
    data = root / "mine" / "damaged-v0" / "data" / "main_data.hdf5"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 3])
    assert json.loads((root / "mine" / "maze-v0" / "data" / "metadata.json").read_text())


@pytest.fixture(scope="module")
def outcomes(place):
    write_files(place.folder)
    return place.outcomes(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_with_one_line(outcomes, name):
    assert_told(outcomes[name], [word.replace("{long}", "x" * 300) for word in MISTAKES[name][1:]])


def test_alone_they_end_alike(place, outcomes):
    place.assert_same_alone(MISTAKES, outcomes)


def test_a_bad_setting_does_not_spoil_a_resumption(place, outcomes):
    before = contents(place.run)
    assert_told(place.main("--resume", "--dataset=nan.hdf5"), ["nan.hdf5"])
    assert_told(place.main("--resume", "--config.beta=0"), ["beta"])
    assert contents(place.run) == before
    outcome = place.main("--resume")  # the run has ended: its results are told again, and not a byte changes
    assert (outcome.code, outcome.err) == (0, "")
    assert "last score" in outcome.out
    assert str(place.run) in outcome.out
    assert contents(place.run) == before
