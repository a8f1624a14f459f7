"""Sweeps of runs of a few updates."""

from tiny_runs import write_dataset

from xql_jax.sweeps.plan import make_plan
from xql_jax.sweeps.settings import SweepSettings
from xql_jax.sweeps.worker import InProcess, train
from xql_jax.training.signals import StopSignals

TINY = ":hidden_dims=8:batch_size=8"  # of every method


def sweep_settings(folder, **changes):
    """Cloning and IQL on data of one's own: 20 updates, evaluated every 5."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data.npz"
    if not data.exists():
        write_dataset(data)
    settings = {
        "methods": (f"bc{TINY}", f"iql{TINY}"),
        "datasets": (f"pointmaze-umaze-v0={data}",),
        "num_seeds": 2,
        "max_steps": 20,
        "eval_interval": 5,
        "eval_episodes": 1,
        "save_dir": str(folder / "runs"),
    }
    return SweepSettings(**(settings | changes))


def train_all(settings, executor=None, stop=None):
    """What came of each cell, in the order in which they ended."""
    executor, stop = executor or InProcess(), stop or StopSignals()
    return list(train(make_plan(settings), settings, executor, stop))


def rows(settings):
    """By cell: its run's evaluations, without seconds."""
    return {
        str(cell): [
            (row.step, row.seed, row.setting, row.results["score"], row.results["length"])
            for row in cell.record.rows(cell.record.files.evaluations)
        ]
        for cell in make_plan(settings).cells
        if cell.record
    }
