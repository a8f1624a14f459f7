"""Methods: a learner with a method's own parts and values."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from xql_jax.learners.fields import Part, with_hyperparameters

L = TypeVar("L", bound=Part)


@dataclasses.dataclass(frozen=True)
class RunDefaults:
    """What a method wants of a run, where the command line says nothing."""

    batch_size: int = 256
    normalize_observations: bool = False
    scale_rewards: bool = True  # locomotion's, so that returns span 1000, as IQL and XQL do
    top_returns: float = 1.0  # share of the transitions that are learned from, see `fit_preprocessing`


class Method(Generic[L]):
    """Makes a learner from hyperparameters by their flat names: `XQL(beta=0.6, loss="plain")`.

    Args:
        learner: its class.
        defaults: hyperparameters whose default is not that of the parts' classes.
        by_suite: by suite (see `Task.suite`), what the method's authors change there; the files in configs/
            take it from here, and may say otherwise.
        run: what the method wants of a run.
        parts: the classes of its parts.
    """

    def __init__(
        self,
        learner: type[L],
        defaults: Mapping[str, Any] | None = None,
        *,
        by_suite: Mapping[str, Mapping[str, Any]] | None = None,
        run: RunDefaults = RunDefaults(),
        **parts: Callable,
    ):
        self.learner, self.defaults, self.parts = learner, defaults or {}, parts
        self.by_suite, self.run = by_suite or {}, run

    def __call__(self, **hyperparameters: Any) -> L:
        """Raises UserError if a hyperparameter is unknown, or its value impossible."""
        learner = self.learner(**{name: make() for name, make in self.parts.items()})
        return with_hyperparameters(learner, {**self.defaults, **hyperparameters})
