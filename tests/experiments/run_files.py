"""The files of a run, as the tests of mains read them."""

import csv
import json

import matplotlib.image
import numpy as np


def run_folder(folder):
    (config,) = folder.rglob("config.json")
    return config.parent


def rows(path):
    """Without the times, which differ."""
    with path.open(newline="") as file:
        return [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]


def strict_json(path):
    """The file's content; NaN and Infinity, which are not JSON, are refused as most other parsers do."""

    def refuse(constant):
        raise AssertionError(f"{path.name} holds {constant}")

    return json.loads(path.read_text(), parse_constant=refuse)


def assert_every_documented_file(run, members, *others):
    names = {path.name for path in run.iterdir() if path.suffix not in (".svg", ".lock")} - {".lock"}
    assert names == {
        *("config.json", "summary.json", "evaluations.csv", "metrics.csv", "learning_curve.png", "tb"),
        *("checkpoints", *others),
    }
    assert len(list((run / "tb").iterdir())) == members
    for picture in run.glob("*.png"):
        pixels = matplotlib.image.imread(picture)[..., :3]
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
        assert 0.05 < (pixels == 1).all(-1).mean() < 0.95  # neither all white nor without a margin
    for path in run.rglob("*.json"):
        strict_json(path)
