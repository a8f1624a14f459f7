"""What runs' folders are called, and that a run is found by its digest whatever it is called."""

import dataclasses
import runpy
from pathlib import Path

import pytest

from xql_jax.runs.folder import RunFolder, run_label
from xql_jax.training.members import Member

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "pointmaze_config.py"


def label(sweep="", batch_size=256, **fields):
    config = runpy.run_path(str(CONFIG))["get_config"]()
    config.update(fields)
    content = {name: value for name, value in config.to_dict().items() if name != "about"}
    return run_label(config.to_dict(), {"config": content, "sweep": sweep, "batch_size": batch_size})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ""),
        ({"beta": 0.2}, ""),  # typed, and the file's own
        ({"beta": 0.5, "tau": 0.1}, "beta=0.5_tau=0.1"),
        ({"beta": 0.5, "batch_size": 64}, "batch_size=64_beta=0.5"),
        ({"sweep": "beta=1,2 clip=5,7", "layer_norm": True}, "beta=1,2_clip=5,7_layer_norm=true"),
        ({"value_hidden_dims": (8, 16)}, "value_hidden_dims=8,16"),
    ],
)
def test_the_label_has_what_differs_from_the_file(settings, expected):
    assert label(**settings) == expected


def folder(save_dir, label=""):
    return RunFolder(save_dir, "maze", "xql", range(3), [Member(0, {})], {"beta": 1.0}, label)


def test_a_folder_of_another_name_is_found(tmp_path):
    new = folder(tmp_path, "beta=1")
    assert new.path.name == f"seeds0-2_beta=1_{new.run[:8]}"
    old = folder(tmp_path)  # as runs were called before
    old.path.mkdir(parents=True)
    assert folder(tmp_path, "beta=1").path == old.path
    other_seeds = dataclasses.replace(new, seeds=range(4))
    assert other_seeds.path != old.path
    old.path.rename(tmp_path / "away")
    new.path.mkdir()
    assert folder(tmp_path, "beta=1.0").path == new.path
