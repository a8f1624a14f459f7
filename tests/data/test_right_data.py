"""Nothing is told of right data in any usual layout, with a task and without, alone and beside others."""

import numpy as np
import pytest
from data_formats import KEYS, arrays_of, write, write_minari
from test_seams import Walk

from xql_jax.data.loading import load_dataset
from xql_jax.data.rows import rows_of_replay, write_hdf5
from xql_jax.data.suspicions import suspicions
from xql_jax.suites.tasks import get_task
from xql_jax.types import Batch

HOPPER = get_task("Hopper-v5")  # 1,000 steps
QLEARNING = ("observations", "actions", "next_observations", "rewards", "terminals")
LAYOUTS = [*KEYS, "qlearning.npz", "qlearning.hdf5", "qlearning with timeouts.hdf5", "minari", "replay"]
LENGTHS = {
    "runs": [1_000, 430, 1_000, 222, 871, 1_000, 14, 399],  # of a policy that sometimes falls
    "short": [40, 61, 33, 57, 48, 29, 52, 44],
    "longer than the limit": [1_230, 1_310, 1_124, 1_502, 1_011, 987],  # people's demonstrations, play
}


def episodes(lengths, ends, sparse, seed):
    """Episodes that all end by one kind, or by a terminal before the limit and a time-out at it."""
    kinds = [("timeout" if n >= 1_000 else "terminal") if ends == "limit" else ends for n in lengths]
    return [Walk(seed + i, n, kind, sparse) for i, (n, kind) in enumerate(zip(lengths, kinds, strict=True))]


def source_of(given, layout, folder, monkeypatch):
    """Writes the episodes, and returns what --dataset takes."""
    folder.mkdir(exist_ok=True)
    arrays = arrays_of("transitions.npz", given)
    if layout == "minari":
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
        return f"minari:{write_minari(folder, given)}"
    if layout == "replay":
        fields = arrays | {"masks": 1.0 - arrays["terminals"]}
        rows = rows_of_replay(0, Batch(*(np.float32(fields[name]) for name in Batch._fields)), 1)
        write_hdf5(folder / "replay.hdf5", rows, {"random_return": 0.0, "expert_return": 900.0})
        return str(folder / "replay.hdf5")
    if layout.startswith("qlearning"):
        names = (*QLEARNING, "timeouts") if "timeouts" in layout else QLEARNING
        return str(write(folder / layout, {name: arrays[name] for name in names}))
    path = write(folder / layout, arrays_of(layout, given))
    return f"ogbench:{path}" if layout == "ogbench.npz" else str(path)


@pytest.mark.filterwarnings("ignore::UserWarning:minari")
@pytest.mark.parametrize("ends", ["terminal", "timeout", "limit"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_told_of_right_data(layout, lengths, ends, tmp_path, monkeypatch):
    if (lengths, ends) == ("runs", "terminal"):
        pytest.skip("terminals at the limit are time-outs")
    marks = "qlearning." not in layout  # else only terminals are
    for sparse in (False, True):
        given = [episodes(LENGTHS[lengths], ends, sparse, seed) for seed in (0, 100)]
        made = [source_of(one, layout, tmp_path / f"{sparse}{i}", monkeypatch) for i, one in enumerate(given)]
        for sources in (made[:1], made):
            for task in (None, HOPPER) if marks else (None,):
                told = suspicions(load_dataset(task, sources), task)

                told = [line for line in told if "normalize_observations" not in line]
                assert not told, (sparse, task)
