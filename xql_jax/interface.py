"""The Python interface, documented in docs/python.md: trains on arrays or a task, and returns the policy.

Each function makes the same settings as the flags of its command, and the same run.
"""

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from xql_jax.data.arrays import Layout, from_arrays
from xql_jax.data.dataset import Dataset
from xql_jax.errors import UNGUARDED, UserError
from xql_jax.files.paths import located, paths_from_here
from xql_jax.policy import Policy, load_policy
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.kinds import DEFAULT_ENV_NAME, Finetune, Offline, Online, Training
from xql_jax.runs.load import load_run
from xql_jax.runs.resolve import settings_from
from xql_jax.runs.train import train_run
from xql_jax.settings import as_number, settings_of
from xql_jax.suites.tasks import get_task
from xql_jax.training.progress import print_lines
from xql_jax.training.signals import StopSignals

Arrays = Mapping[str, ArrayLike]
VARIED = ("sweep", "ramp", "online")  # settings that may be a dict of numbers by hyperparameter
Source = str | Path | Arrays
# Given the step, and numbers by name: floats, or arrays if several members are trained. `Any`, because a type
# that allows both would make every callback tell them apart.
Callback = Callable[[int, Mapping[str, Any]], object]


def train(
    env_name: str | None = None,
    *,
    max_steps: int,
    dataset: Source | Sequence[Source] = (),
    method: str | None = None,
    config: str | Path | None = None,
    save_dir: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **settings: object,
) -> Policy:
    """Trains an offline method on data, and returns its policy.

    The run is `xql-train-offline`'s with these settings: same numbers, same folder.

    Args:
        env_name: the task in which the policy is evaluated, and whose data it learns from without `dataset`.
            Without either, the task is pointmaze-umaze-v0.
        max_steps: the number of updates: 30_000 is a first try, the paper has 1_000_000.
        dataset: arrays by name (`observations` [N, O], `actions` [N, A], `rewards` [N], `terminals` or
            `masks` [N], and `next_observations` [N, O], `timeouts` [N] or `ends` [N], or several of them);
            or whatever --dataset takes; or a list of these, which are joined.
        method: such as xql, iql or xql+reverse_kl. None: the method of `config`, or xql.
        config: the file with the hyperparameters, by its path or its name (`kitchen`). None: they are those
            of the task's suite.
        save_dir: the folder under which the run is written, as SAVE_DIR/TASK/METHOD/RUN. None: a temporary
            folder, which is deleted with the policy.
        resume: whether to go on with a run of these settings under `save_dir`. A finished run is only loaded.
        progress: whether to show a bar, on a terminal or in a notebook, and to print scores, speed and time
            left, unless your own logging shows what "xql_jax" logs. Warnings come in any case.
        callbacks: each is called as f(step, numbers) after an evaluation (score, return, length,
            success_rate) and after a row of metrics (value/v, critic/loss, ...). A number is a float, or
            f64[M] if M members are trained. If it returns True, the run is saved and ends with its policy.
        settings: hyperparameters, and all flags of the command, by their names: `beta=0.5`, `num_seeds=3`,
            `sweep={"beta": [0.1, 0.2]}`.
    Raises:
        UserError: if a setting or the data cannot be used. Its one line says what, where, and what to do.
        KeyboardInterrupt: on Ctrl-C, once the run is saved; on a second Ctrl-C at once.
    """
    named = {"env_name": env_name, "max_steps": max_steps, "dataset": dataset, "resume": resume}
    return _trained(Offline, method, config, named, settings, save_dir, progress, callbacks)


def train_finetune(
    env_name: str | None = None,
    *,
    max_steps: int,
    checkpoint: str | Path | Policy | None = None,
    dataset: Source | Sequence[Source] = (),
    method: str | None = None,
    config: str | Path | None = None,
    save_dir: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **settings: object,
) -> Policy:
    """Trains offline, or takes the policy of such a run, and goes on in the task's environment.

    The run is `xql-train-finetune`'s with these settings.

    Args:
        max_steps: the number of environment steps after the offline phase.
        checkpoint: a policy of `train`, or a run's folder or checkpoint, from which to go on with its method,
            hyperparameters and data (pass arrays again). None: trains offline first, for
            `num_pretraining_steps` updates.
        env_name, dataset, method, config, save_dir, resume, progress, callbacks, settings: as for `train`. So
            are the errors.
    """
    if isinstance(checkpoint, Policy):
        if len(checkpoint.members) < len(checkpoint.run.members):
            if settings.get("member") is not None:
                raise UserError(
                    f"member={settings['member']}: the policy has a single member: {checkpoint.member}"
                )
            settings["member"] = checkpoint.run.members.index(checkpoint.member)
        checkpoint = checkpoint.path / "checkpoints" / str(checkpoint.step)
    named = {"env_name": env_name, "max_steps": max_steps, "dataset": dataset, "resume": resume}
    named["checkpoint"] = checkpoint
    return _trained(Finetune, method, config, named, settings, save_dir, progress, callbacks)


def train_online(
    env_name: str = "cartpole-swingup",
    *,
    max_steps: int,
    method: str | None = None,
    config: str | Path | None = None,
    save_dir: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **settings: object,
) -> Policy:
    """Trains an online method in a task's environment, and returns its policy.

    The run is `xql-train-online`'s with these settings.

    Args:
        env_name: a task of DM Control, such as cheetah-run, of Gymnasium, or of your own (MODULE:NAME).
        max_steps: the number of environment steps.
        method: xsac, sac, xtd3, td3, xtd3_dq or td3_dq. None: the method of `config`, or xsac.
        config, save_dir, resume, progress, callbacks, settings: as for `train`. So are the errors.
    """
    named = {"env_name": env_name, "max_steps": max_steps, "resume": resume}
    return _trained(Online, method, config, named, settings, save_dir, progress, callbacks)


@paths_from_here()
def _trained(
    kind: type[Training],
    method: str | None,
    config: str | Path | None,
    named: Mapping[str, Any],
    settings: Mapping[str, object],
    save_dir: str | Path | None,
    progress: bool,
    callbacks: Sequence[Callback],
) -> Policy:
    """Trains a run with settings of class `kind`, from the arguments of `train` and the like.

    `named` are settings that are arguments there, `settings` all others, which count as the user's choice.
    Without `save_dir` the run's folder is temporary. It is deleted with the policy, but stays if a
    signal or a failure ends the run.
    """
    if hasattr(multiprocessing.current_process(), "_inheriting"):  # it does not work yet
        raise UserError(UNGUARDED)
    stop = _Stop(callbacks)
    settings_of(kind)["tqdm"].checked("progress", progress)
    if save_dir is not None:
        settings_of(kind)["save_dir"].checked("save_dir", save_dir)
    place = located(tempfile.mkdtemp(prefix="xql_jax-") if save_dir is None else save_dir)
    saved = f"saved in {place}; the same call with save_dir={str(place)!r} goes on"
    try:
        with stop, _printed_lines(progress):
            named = {**named, "save_dir": str(place), "tqdm": progress}
            run = train_run(_settings(kind, method, config, named, settings), stop, [stop.call_back])
        if stop.received and not stop.by_callback:  # also if it came when nothing was left to do
            if stop.received != signal.SIGINT:
                signal.raise_signal(stop.received)
            kept = f", {saved}" if run.summary["step"] else ""
            raise KeyboardInterrupt(f"stopped after {run.in_words(run.summary['step'])}{kept}")
    except BaseException as error:  # whatever ends it, what was trained is kept
        if save_dir is None and not any(place.rglob("checkpoints/*")):
            shutil.rmtree(place)
        elif save_dir is None and saved not in str(error):
            error.add_note(saved)
        raise
    policy = load_policy(run.path)
    if save_dir is None:
        weakref.finalize(policy.run, shutil.rmtree, place, ignore_errors=True)
    return policy


def _settings(
    kind: type[Training],
    method: str | None,
    config: str | Path | None,
    named: Mapping[str, Any],
    settings: Mapping[str, object],
) -> Training:
    """Returns the value of the run; see `_trained`. UserError if it cannot be."""
    if not isinstance(method, str | None) or method == "":
        raise UserError(f"method={method!r}: must be a name, as text")
    if not isinstance(config, str | Path | None):
        raise UserError(f"config={config!r}: must be a file's path or name")
    for name, value in settings.items():
        if isinstance(value, bytes | set | frozenset | Iterator):  # numbers, no order, or read once
            raise UserError(f"{name}={value!r}: give a number, text, or a list of these")
    of_run, laid = settings_of(kind), dict(named)
    for name, value in settings.items():
        laid[name] = _typed(name, value) if isinstance(value, Mapping) and name in VARIED else value
    laid |= {
        name: of_run[name].checked(name, laid[name]) for name in laid.keys() & of_run if name != "dataset"
    }
    if "dataset" in laid:
        laid["dataset"] = _sources(laid["dataset"], laid, named.get("checkpoint"))
    chosen = choose_config(kind, method, None if config is None else str(config), **laid)
    of_user = [*settings, *["method"] * bool(method), *["config"] * bool(config)]
    made: Training = settings_from(chosen, laid, of_user)
    return made


def _sources(
    data: Source | Sequence[Source], laid: Mapping[str, Any], checkpoint: Any
) -> list[str | Dataset]:
    """Returns the data to learn from: paths as they are, arrays as datasets with the task's layout."""
    if isinstance(data, list) and not data:
        raise UserError("dataset: the list is empty: leave it out for the task's own data")
    sources: Sequence[Any] = [*data] if isinstance(data, list | tuple) else [data]
    env_name, unused = laid["env_name"], laid.get("unused_arrays", ())
    if checkpoint:
        run = load_run(checkpoint)
        unused, of_run = unused or run.unused_arrays, run.env_name or ""
        # A user's own environment is code, which runs only if it is named here.
        env_name = env_name or ("" if ":" in of_run else of_run)
    task = get_task(env_name or DEFAULT_ENV_NAME) if env_name or not sources else None
    layout = Layout(task.episode_limit if task else None, unused=unused)
    return [_source(source, layout) for source in sources]


class _Stop(StopSignals):
    """What ends a call: a signal, or a callback that returns True.

    Signals are recorded from its beginning on: an exception of a signal while JAX compiles may be lost.
    """

    def __init__(self, callbacks: Sequence[Callback]):
        super().__init__()
        if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
            raise UserError("callbacks: give a list of functions f(step, numbers)")
        self._callbacks, self.by_callback = callbacks, False

    def __enter__(self) -> Self:
        return self if self._previous else super().__enter__()

    def _record(self, number: int, frame: FrameType | None) -> None:
        super()._record(number, frame)
        name = signal.Signals(number).name
        line = f"{name}: ends after this piece of work; a second signal ends it at once\n"
        os.write(2, line.encode())  # print may be in the midst of another line

    def call_back(self, step: int, columns: Mapping[str, Sequence[float]]) -> None:
        shown = {name: each[0] if len(each) == 1 else np.array(each) for name, each in columns.items()}
        answers = [callback(step, shown) for callback in self._callbacks]
        if any(getattr(answer, "size", 1) > 1 for answer in answers):
            raise UserError("callbacks: return a single True or False; of all members, (...).all() or .any()")
        if any(answers) and not self.received:
            self.by_callback = True
            self.request()


@contextlib.contextmanager
def _printed_lines(show: bool) -> Iterator[None]:
    """Prints the library's log lines while entered, unless the user's own logging takes them already."""
    library = logging.getLogger("xql_jax")
    theirs = library.handlers or (library.hasHandlers() and library.isEnabledFor(logging.INFO))
    if theirs or not show:
        yield
        return
    level, propagate = library.level, library.propagate
    try:
        print_lines()
        yield
    finally:
        library.setLevel(level)
        library.propagate, library.handlers = propagate, []


def _typed(flag: str, fields: Mapping[str, Any]) -> str:
    """Returns a dict of numbers, or lists of numbers, as the text of --sweep, --ramp or --online."""
    parts = []
    for name, values in fields.items():
        try:
            numbers = values if np.ndim(values) else [values]
            texts = [
                number if isinstance(number, str) else str(as_number(number)).removesuffix(".0")
                for number in numbers
            ]
        except (TypeError, ValueError):
            raise UserError(f"{name}={values!r}: must be a number, or a list of numbers") from None
        parts.append(f"{name}={(',' if flag == 'sweep' else ':').join(texts)}")
    return " ".join(parts)


def _source(source: Source, layout: Layout) -> str | Dataset:
    if isinstance(source, str | Path):
        return str(source)
    if not isinstance(source, Mapping):
        raise UserError(f"dataset: cannot use a {type(source).__name__}: give arrays by name, or a path")
    return from_arrays(_arrays(source), "arrays", layout)


def _arrays(source: Mapping[Any, Any], group: str = "") -> dict[str, np.ndarray]:
    """Returns copies of arrays; those in a mapping within the mapping are called GROUP/NAME, as in HDF5."""
    arrays: dict[str, np.ndarray] = {}
    for key in source:
        try:
            if isinstance(each := source[key], Mapping):
                arrays |= _arrays(each, f"{group}{key}/")
            elif np.ma.is_masked(each):
                raise UserError(f"dataset: {group}{key} has masked entries: leave out their rows")
            else:
                arrays[f"{group}{key}"] = np.array(each)  # a copy: the caller may write over its own
        except (ValueError, TypeError) as error:  # rows of different lengths
            raise UserError(f"dataset: {group}{key} is no array of numbers: {error}") from error
    return arrays
