"""What the tests of runs share: settings of runs of a few updates, and how such a run is stopped."""

import contextlib
import itertools
import logging

import jax
import numpy as np
from driver import contents, write_dataset  # noqa: F401

from xql_jax.runs.config_files import Config, values_in
from xql_jax.runs.kinds import METHOD_SETTINGS, Finetune, Offline, Online
from xql_jax.runs.layers import SUITE, Layers, layers_of
from xql_jax.runs.load import load_run
from xql_jax.runs.resolve import settings_from
from xql_jax.suites import Values
from xql_jax.training import trainer
from xql_jax.training.signals import StopSignals

SCHEDULE = {"max_steps": 12, "log_interval": 4, "eval_interval": 6, "checkpoint_interval": 6, "tqdm": False}
PRETRAINING = 6  # updates before the first step of a fine-tuned run
SIX = {"seed": 3, "num_seeds": 6}


def small(method, **values):
    """A method with networks of eight units, and these values where its own were."""
    return method, (), Values({"all": {"hidden_dims": (8,), **values}})


def of_data(folder):
    """What runs on the data in the folder have in common."""
    return {
        **SCHEDULE,
        "save_dir": str(folder / "runs"),
        "env_name": "pointmaze-umaze-v0",
        "dataset": (str(folder / "data.npz"),),
        "batch_size": 8,
        "eval_episodes": 2,
        "normalize_observations": True,
    }


def made(kind, config, **values):
    """Settings of a kind of training; what is None is the config's.

    In fine-tuning, what a config file may choose counts as given.
    """
    values = {name: value for name, value in values.items() if value is not None}
    own = {name for name, one in METHOD_SETTINGS.items() if name in values and not one.of_checkpoint}
    given = values.pop("given", own)
    if isinstance(config, tuple):
        chosen = Config(kind, config[0], layers_of(kind, *config))
    else:
        chosen = config_from(kind, config)
    return settings_from(chosen, values, given)


def config_from(kind, file):
    """A file's config as if it were a suite's."""
    return Config(kind, file.method, Layers({SUITE: values_in(kind, file)}), file.suite)


def offline_settings(folder, **changes):
    """Behaviour cloning of the better two thirds of the data, of observations that are normalised."""
    return made(Offline, **{"config": small("bc"), **of_data(folder), "top_returns": 0.67, **changes})


def online_settings(folder, **changes):
    """TD3 in a point maze."""
    settings = {
        "config": small("td3", batch_size=4, buffer_size=16, warmup_steps=4),
        **SCHEDULE,
        "save_dir": str(folder / "runs"),
        "env_name": "pointmaze-umaze-v0",
        "eval_episodes": 1,
        "bellman_error_interval": 6,
    }
    return made(Online, **(settings | changes))


def finetune_settings(folder, method="xql", **changes):
    """XQL with two seeds: six updates, then twelve steps."""
    settings = {"config": small(method), **of_data(folder), "seed": 3, "num_seeds": 2}
    return made(Finetune, **(settings | {"num_pretraining_steps": PRETRAINING} | changes))


@contextlib.contextmanager
def stopped_at(line):
    """Yields what stops a run when it says that line."""
    stop = StopSignals()

    class Listener(logging.Handler):
        def emit(self, record):
            if record.getMessage().startswith(line):
                stop.request()

    logger, listener = logging.getLogger("xql_jax"), Listener()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    yield stop
    logger.setLevel(level)
    logger.removeHandler(listener)


def breaking(monkeypatch, steps):
    """Makes actions of members (their indices) from these steps on not finite, late in each episode."""
    made = trainer.deterministic_policy

    def make(learners, states, device=None):
        act, calls, step = made(learners, states, device), itertools.count(), np.asarray(states.step)

        def acting(observations):
            actions, is_late = np.array(act(observations)), next(calls) > 20
            for index, first in steps.items():
                if is_late and step[index] >= first:
                    actions[index] = np.inf
            return actions

        return acting

    monkeypatch.setattr(trainer, "deterministic_policy", make)


def states_of(summary, step):
    """A run's states after a step by the member's name, from its files."""
    return load_run(summary.path, step).states


def evaluations_of(summary):
    run = load_run(summary.path)
    return run.rows(run.files.evaluations)


def untimed(path):
    """A CSV file's lines without their last cell if it is the seconds."""
    header, *lines = path.read_text().splitlines() or [""]
    return [header, *([line.rsplit(",", 1)[0] for line in lines] if header.endswith(",seconds") else lines)]


def assert_same_rows(summary, other, *names):
    for name in names or ("metrics.csv", "evaluations.csv", "episodes.csv"):
        assert untimed(summary.path / name) == untimed(other.path / name)


def assert_same_bits(tree, other):
    for leaf, expected in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        assert (leaf.dtype, leaf.shape) == (expected.dtype, expected.shape)
        assert leaf.tobytes() == expected.tobytes()
