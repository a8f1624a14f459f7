"""What learners of each kind see of data, whichever learner it is."""

from types import SimpleNamespace

from xql_jax.data.views import view_for
from xql_jax.types import Batch, CalibratedBatch, SarsaBatch, Windows


def over_horizon(dataset, horizon, discount):
    return view_for(SimpleNamespace(batch_type=Batch, discount=discount), dataset, horizon)


def with_next_actions(dataset):
    return view_for(SimpleNamespace(batch_type=SarsaBatch), dataset)


def with_returns_to_go(dataset, discount, endless):
    learner = SimpleNamespace(batch_type=CalibratedBatch, discount=discount, endless=endless)
    return view_for(learner, dataset)


def in_windows(dataset, length):
    return view_for(SimpleNamespace(batch_type=Windows, context_length=length), dataset)
