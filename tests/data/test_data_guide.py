"""The examples of docs/data.md run, and what they write is what the guide says it is."""

import warnings

import pytest
from guides import blocks

from xql_jax.data.loading import load_dataset

GUIDE = "docs/data.md"
EXAMPLES = [block.code for block in blocks(GUIDE, "python") if not block.reason]
# By source: transitions, trajectories, terminals.
WRITTEN = {
    "mine.hdf5": (995, 10, 5),  # five time-outs, the last of which is the last row
    "mine.npz": (1000, 10, 5),
    "episodes": (1000, 10, 5),
    "minari:mine/walk-v0": (100, 1, 1),
    "ogbench:goal.npz": (995, 10, 5),  # a goal and a time-out in each of five trajectories
}


@pytest.mark.parametrize(("example", "source"), zip(EXAMPLES, WRITTEN, strict=True))
def test_an_example_writes_what_can_be_read(tmp_path, monkeypatch, example, source):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Minari would like to know the author
        exec(compile(example, GUIDE, "exec"), {})
    dataset = load_dataset(None, [source])
    assert (dataset.size, dataset.ends.sum(), (dataset.batch.masks == 0).sum()) == WRITTEN[source]
    assert (dataset.observation_dim, dataset.action_dim) == (4, 2)
