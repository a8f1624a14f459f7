"""The Python interface, documented in docs/python.md: trains on arrays or a task, and returns the policy.

`train` and `train_online` make the same settings as the flags of the scripts in experiments/, and the same
runs.
"""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from xql_jax.config_files import OFFLINE, ONLINE, Kind, file_for, load_config
from xql_jax.configuration import field_names, with_fields
from xql_jax.data.dataset import Dataset
from xql_jax.data.readers import from_arrays
from xql_jax.errors import UserError, nearest
from xql_jax.learners.registry import OFFLINE as OFFLINE_METHODS
from xql_jax.learners.registry import ONLINE as ONLINE_METHODS
from xql_jax.learners.registry import method_of
from xql_jax.policy import Policy, load_policy
from xql_jax.runs.acting_settings import OnlineSettings
from xql_jax.runs.settings import DEFAULT_ENV_NAME, OfflineSettings, RunSettings
from xql_jax.runs.train import train_run
from xql_jax.settings import settings_of
from xql_jax.tasks import get_task

Arrays = Mapping[str, ArrayLike]
Source = str | Path | Arrays | Dataset
Config: TypeAlias = str | Path | ConfigDict
S = TypeVar("S", bound=RunSettings)


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

    The run is the same as that of `experiments/train_offline.py` with these settings: same numbers, same
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
        settings: hyperparameters, and all flags of train_offline.py, by their names: `beta=0.5`,
            `max_steps=20_000`, `num_seeds=3`, `sweep="beta=0.1,0.2"`.
    Raises:
        UserError: if a setting or the data cannot be used. Its one line says what, where, and what to do.
        KeyboardInterrupt: on Ctrl-C, once the run is saved.
    """
    sources: list[Any] = list(dataset) if isinstance(dataset, list | tuple) else [dataset]
    task = get_task(env_name or DEFAULT_ENV_NAME) if env_name or not sources else None
    _check_method(method, OFFLINE_METHODS, ONLINE_METHODS, "train_online")
    values = _config(config, method or "xql", method, OFFLINE, file_for(method or "xql", task))
    limit = task.episode_limit if task else None
    with contextlib.ExitStack() as folders:
        made = _settings(
            OfflineSettings,
            settings,
            values,
            env_name=env_name,
            dataset=[_source(source, limit) for source in sources],
            save_dir=_folder(save_dir, folders),
            resume=resume,
            tqdm=progress,
        )
        return _trained(made, folders, save_dir is not None)


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

    The run is the same as that of `experiments/train_online.py` with these settings.

    Args:
        env_name: a task of DM Control, such as cheetah-run, of Gymnasium, or of your own (MODULE:NAME).
        method: xsac, sac, xtd3, td3, xtd3_dq or td3_dq. None: the method of `config`, or xsac.
        config, save_dir, resume, progress: as for `train`.
        settings: hyperparameters, and all flags of train_online.py, by their names.
    Raises:
        UserError, KeyboardInterrupt: as `train`.
    """
    _check_method(method, ONLINE_METHODS, OFFLINE_METHODS, "train")
    values = _config(config, method or "xsac", method, ONLINE, file_for(method or "xsac", None))
    with contextlib.ExitStack() as folders:
        made = _settings(
            OnlineSettings,
            settings,
            values,
            env_name=env_name,
            save_dir=_folder(save_dir, folders),
            resume=resume,
            tqdm=progress,
        )
        return _trained(made, folders, save_dir is not None)


def _check_method(method: str | None, known: Iterable[str], others: Iterable[str], function: str) -> None:
    """Raises UserError if the method is unknown; for one of `others`, the message names its function."""
    name = "" if method is None else method_of(method)
    if method is not None and name not in known:
        hint = f"xql_jax.{function} trains that one; " if name in others else ""
        raise UserError(f"unknown method {method!r} here: {hint}nearest known: {nearest(name, known)}")


def _trained(settings: RunSettings, folders: contextlib.ExitStack, is_kept: bool) -> Policy:
    """Trains, and returns the policy, which keeps the temporary folders while it exists.

    If a signal or a failure ends a run in a temporary folder, its files are copied to a folder that stays.
    """
    place = Path(settings.save_dir).expanduser()
    try:
        summary = train_run(settings)
        if summary.stopped_by is None:
            policy = load_policy(summary.path)
            policy.folders = folders.pop_all()
            return policy
    except BaseException as error:  # whatever ends it, what was trained is kept
        if is_kept or not any(place.glob("*/*/*/checkpoints/*")):
            raise
        place = _copied(place)
        hint = f"saved in {place}; the same call with save_dir={str(place)!r} goes on"
        if isinstance(error, UserError):
            raise type(error)(f"{error}; {hint}") from error
        error.add_note(hint)
        raise
    if summary.stopped_by != signal.SIGINT:
        signal.raise_signal(summary.stopped_by)
    place = place if is_kept else _copied(place)
    raise KeyboardInterrupt(
        f"stopped after {summary.content['step']:,} {summary.unit}s, saved in {place}; the same call with "
        f"save_dir={str(place)!r} goes on"
    )


def _copied(folder: Path) -> Path:
    """Copies a folder to a temporary one that is not deleted, and returns that."""
    return Path(shutil.copytree(folder, tempfile.mkdtemp(prefix="xql_jax-"), dirs_exist_ok=True))


def _folder(save_dir: str | Path | None, folders: contextlib.ExitStack) -> str:
    if save_dir is not None:
        return str(save_dir)
    return folders.enter_context(tempfile.TemporaryDirectory(prefix="xql_jax-"))


def _config(
    config: Config | None, default: str, method: str | None, kind: Kind, file: Path | None
) -> ConfigDict:
    if isinstance(config, ConfigDict):
        if method:
            raise UserError(f"method={method!r}: the config is one for {config.algorithm}: leave out one")
        return config.copy_and_resolve_references()
    if config is None:
        if file is None:
            raise UserError("there is no config for the task's suite: give config")
        return load_config(f"{file}:{default}", kind)
    return load_config(f"{config}:{method}" if method else str(config), kind)


def _settings(kind: type[S], given: Mapping[str, Any], config: ConfigDict, **others: Any) -> S:
    """Makes settings of class `kind`; names that are no settings of it are hyperparameters of the config.

    Raises:
        UserError: if a name is unknown, or a value is invalid.
    """
    known = settings_of(kind).keys() - others.keys()
    for name in given:
        if name not in known and name not in field_names(config):
            nearby = nearest(name, {*known, *field_names(config)})
            raise UserError(f"unknown setting {name!r} for {config.algorithm}; nearest known: {nearby}")
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    fields = {name: value for name, value in plain.items() if name not in known}
    return kind(
        config=with_fields(config, fields),
        given=frozenset(given),
        **{name: value for name, value in plain.items() if name in known},
        **others,
    )


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
