"""What a run on Weights & Biases is given, by a package that keeps it."""

import math
import sys
from types import SimpleNamespace

from xql_jax.logs.wandb import WandbLogger


class FakeWandb:
    """Has the part of the package that is used, and makes a run's folder as W&B does."""

    Settings = dict

    def __init__(self):
        self.rows, self.config, self.ids = {}, {}, []

    def init(self, *, id, dir, config, **others):
        self.ids.append(id or "abc123")
        (dir / "wandb" / f"offline-run-2024010{len(self.ids)}_000000-{self.ids[-1]}").mkdir(parents=True)
        self.config.update(config)
        noted = SimpleNamespace(update=lambda values, allow_val_change: self.config.update(values))
        return SimpleNamespace(log=self.log, config=noted, finish=lambda: None)

    def log(self, row, step):
        self.rows.setdefault(step, {}).update(row)


def test_every_row_is_given_and_a_resumed_run_keeps_its_id(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    for first in (1, 3):
        logger = WandbLogger(tmp_path, ["seed_0", "seed_1"], "project", "group", {"algorithm": "xql"})
        logger.write_hyperparameters(1, {"beta": 0.5})
        for step in (first, first + 1):
            logger.write(0, step, {"value/loss": step / 2, "value/v": math.nan})
            logger.write(1, step, {"value/loss": step / 4})
        logger.close()
    steps = (1, 2, 3, 4)
    assert wandb.rows == {n: {"value/loss/seed_0": n / 2, "value/loss/seed_1": n / 4} for n in steps}
    assert wandb.config == {"algorithm": "xql", "beta/seed_1": 0.5}
    assert wandb.ids == ["abc123"] * 2
