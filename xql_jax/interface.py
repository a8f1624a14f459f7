"""The Python interface, documented in docs/python.md: trains on arrays or a task, and returns the policy.

`train` and `train_online` make the same settings as the flags of the training commands, and the same
runs.
"""

import shutil
import signal
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from xql_jax.config_files import OFFLINE, ONLINE, Kind, choose_config
from xql_jax.configuration import with_fields
from xql_jax.data.dataset import Dataset
from xql_jax.data.readers import from_arrays
from xql_jax.errors import UserError
from xql_jax.policy import Policy, load_policy
from xql_jax.runs.acting_settings import OnlineSettings
from xql_jax.runs.settings import DEFAULT_ENV_NAME, OfflineSettings, RunSettings
from xql_jax.runs.train import train_run
from xql_jax.settings import settings_of
from xql_jax.tasks import get_task

Arrays = Mapping[str, ArrayLike]
Source = str | Path | Arrays | Dataset
Config: TypeAlias = str | Path | ConfigDict


def train(
    env_name: str | None = None,
    *,
    dataset: Source | Sequence[Source] = (),
    method: str | None = None,
    config: Config | None = None,
    save_dir: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    **settings: Any,
) -> Policy:
    """Trains an offline method on data, and returns its policy.

    The run is the same as that of `xql-train-offline` with these settings: same numbers, same
    folder.

    Args:
        env_name: the task in which the policy is evaluated. Without `dataset`, the method learns from the
            task's own data. If neither is given, the task is pointmaze-umaze-v0.
        dataset: arrays by name (`observations` [N, O], `actions` [N, A], `rewards` [N], `terminals` or
            `masks` [N], and either `next_observations` [N, O] or, if a time limit ends episodes, `timeouts`
            [N]); or whatever --dataset takes; or a list of these, which are joined.
        method: such as xql, iql or xql+reverse_kl. None: the method of `config`, or xql.
        config: the file with the hyperparameters, by its path or its name (`kitchen`), or the ConfigDict that
            its get_config returns. None: the file for the task's suite.
        save_dir: the folder under which the run is written, as SAVE_DIR/ENV/METHOD/RUN. None: a temporary
            folder, which is deleted with the policy.
        resume: whether to go on with a run of these settings under `save_dir`. A finished run is only loaded.
        progress: whether to show a progress bar on a terminal or in a notebook.
        settings: hyperparameters, and all flags of xql-train-offline, by their names: `beta=0.5`,
            `max_steps=20_000`, `num_seeds=3`, `sweep="beta=0.1,0.2"`.
    Raises:
        UserError: if a setting or the data cannot be used. Its one line says what, where, and what to do.
        KeyboardInterrupt: on Ctrl-C, once the run is saved.
    """
    sources: list[Any] = list(dataset) if isinstance(dataset, list | tuple) else [dataset]
    task = get_task(env_name or DEFAULT_ENV_NAME) if env_name or not sources else None
    values = _config(OFFLINE, method, config, env_name, bool(sources))
    limit = task.episode_limit if task else None
    data = [_source(source, limit) for source in sources]
    common = {"env_name": env_name, "resume": resume, "tqdm": progress}
    return _trained(OfflineSettings, settings, values, save_dir, dataset=data, **common)


def train_online(
    env_name: str = "cartpole-swingup",
    *,
    method: str | None = None,
    config: Config | None = None,
    save_dir: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    **settings: Any,
) -> Policy:
    """Trains an online method in a task's environment, and returns its policy.

    The run is the same as that of `xql-train-online` with these settings.

    Args:
        env_name: a task of DM Control, such as cheetah-run, of Gymnasium, or of your own (MODULE:NAME).
        method: xsac, sac, xtd3, td3, xtd3_dq or td3_dq. None: the method of `config`, or xsac.
        config, save_dir, resume, progress: as for `train`.
        settings: hyperparameters, and all flags of xql-train-online, by their names.
    Raises:
        UserError, KeyboardInterrupt: as `train`.
    """
    values = _config(ONLINE, method, config, env_name, False)
    common = {"env_name": env_name, "resume": resume, "tqdm": progress}
    return _trained(OnlineSettings, settings, values, save_dir, **common)


def _config(
    kind: Kind, method: str | None, config: Config | None, env_name: str | None, has_data: bool
) -> ConfigDict:
    """Returns the hyperparameters: those of `config`, or of the file for the method and the task."""
    if isinstance(config, ConfigDict):
        if method:
            raise UserError(f"method={method!r}: the config is one for {config.algorithm}: leave out one")
        return config.copy_and_resolve_references()
    name = None if config is None else str(config)
    return choose_config(kind, method, name, env_name=env_name, has_data=has_data)[1]


def _trained(
    kind: type[RunSettings],
    given: Mapping[str, Any],
    config: ConfigDict,
    save_dir: str | Path | None,
    **others: Any,
) -> Policy:
    """Trains a run with settings of class `kind`, and returns its policy.

    Without `save_dir` the run's folder is a temporary one. It is deleted with the policy, but stays if a
    signal or a failure ends the run.

    Args:
        given: settings by name; names that are no settings of `kind` are hyperparameters of the config.
        others: further settings.
    Raises:
        UserError: if a name is unknown, or a value is invalid.
    """
    known = settings_of(kind).keys() - others.keys() - {"save_dir"}
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    config = with_fields(
        config, {name: plain[name] for name in plain if name not in known}, settings_of(kind)
    )
    others |= {name: value for name, value in plain.items() if name in known}
    place = Path(save_dir or tempfile.mkdtemp(prefix="xql_jax-")).expanduser()
    saved = f"saved in {place}; the same call with save_dir={str(place)!r} goes on"
    try:
        settings = kind(config=config, given=frozenset(given), save_dir=str(place), **others)
        summary = train_run(settings)
    except BaseException as error:  # whatever ends it, what was trained is kept
        if save_dir is not None:
            raise
        if not any(place.glob("*/*/*/checkpoints/*")):
            shutil.rmtree(place)
            raise
        if isinstance(error, UserError):
            raise type(error)(f"{error}; {saved}") from error
        error.add_note(saved)
        raise
    if summary.stopped_by is None:
        policy = load_policy(summary.path)
        if save_dir is None:
            weakref.finalize(policy.run, shutil.rmtree, place, ignore_errors=True)
        return policy
    if summary.stopped_by != signal.SIGINT:
        signal.raise_signal(summary.stopped_by)
    raise KeyboardInterrupt(f"stopped after {summary.content['step']:,} {summary.unit}s, {saved}")


def _source(source: Source, episode_limit: int | None) -> str | Dataset:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Dataset):
        return source
    if not isinstance(source, Mapping):
        raise UserError(
            f"dataset: cannot use a {type(source).__name__}: give arrays by name, or a file's name"
        )
    return from_arrays({key: np.asarray(source[key]) for key in source}, episode_limit, "arrays")
