"""The way of a run of any kind, from its settings to its summary."""

from collections.abc import Sequence
from typing import Any

from xql_jax.runs.kinds import Acting, Finetune, Online, Training
from xql_jax.runs.load import Run
from xql_jax.runs.machine import prepare_acting
from xql_jax.runs.offline import populate_offline
from xql_jax.runs.resolve import resolved
from xql_jax.runs.run import make_evaluator, run_resources, states_of_source, train_and_summarize
from xql_jax.runs.run_data import check_room, load_data, run_folder
from xql_jax.training.loop import RowCallback
from xql_jax.training.signals import StopSignals


def train_run(
    settings: Training, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()
) -> Run:
    """Trains, or goes on with, the run that has these settings.

    Args:
        stop: ends it after saving a checkpoint; it takes the signals SIGINT and SIGTERM meanwhile.
        callbacks: see `RowCallback`.
    Raises:
        UserError: if a setting or the data are invalid; earlier runs are not changed then.
    """
    return train_resolved(resolved(settings), stop, callbacks)


def train_resolved(
    settings: Any, stop: StopSignals | None = None, callbacks: Sequence[RowCallback] = ()
) -> Run:
    """See `train_run`; the settings are `resolved`."""
    populate: Any = populate_offline
    if isinstance(settings, Online):
        from xql_jax.runs.online import populate_online as populate
    if isinstance(settings, Finetune):
        from xql_jax.runs.finetuning import populate_both_phases as populate
    if isinstance(settings, Acting) or settings.background_evaluation:
        prepare_acting()
    stop = stop or StopSignals()
    with run_resources(settings) as resources:
        evaluator = make_evaluator(settings, resources)
        data = load_data(settings, evaluator)
        if isinstance(settings, Acting):
            check_room(settings, data.sizes)
        folder = run_folder(settings, data)
        if settings.resume and (finished := folder.finished()):
            return finished
        states = states_of_source(settings, data.sizes) if settings.source and not folder.steps else None

        resources.enter_context(folder.locked(settings.resume))
        data.preprocessing.save(folder.files.preprocessing, folder.run_id)
        populations = populate(folder, data)
        if states:
            populations.first.set_in_members(state=states)
        return train_and_summarize(folder, data, populations, evaluator, stop, callbacks)
