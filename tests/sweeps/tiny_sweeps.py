"""Sweeps of runs of a few updates."""

from tiny_runs import write_dataset

from xql_jax.training.signals import StopSignals
from xql_jax.workshop.sweeps.executors import in_process, train_cells
from xql_jax.workshop.sweeps.plan import make_plan
from xql_jax.workshop.sweeps.sweep_settings import Sweep

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
    return Sweep(**(settings | changes))


def train_all(settings, executor=in_process, stop=None):
    """What came of each cell, in the order in which they ended."""
    return list(train_cells(make_plan(settings), settings, executor, stop or StopSignals()))


def states(settings):
    return [cell.state for cell in make_plan(settings)]


def rows(settings):
    """By first seed: its run's evaluations, without seconds."""
    return {
        cell.settings.seed: [
            (row.step, row.seed, row.setting, row.results["score"], row.results["length"])
            for row in cell.run.rows(cell.run.files.evaluations)
        ]
        for cell in make_plan(settings)
        if cell.run
    }
