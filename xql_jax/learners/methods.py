"""Methods: a learner with a method's own parts and values."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from xql_jax.learners.fields import Part, with_hyperparameters

L = TypeVar("L", bound=Part)


class Method(Generic[L]):
    """Makes a learner from hyperparameters by their flat names: `XQL(beta=0.6, loss="plain")`.

    Args:
        learner: its class.
        defaults: hyperparameters whose default is not that of the parts' classes.
        parts: the classes of its parts.
    """

    def __init__(
        self, learner: Callable[..., L], defaults: Mapping[str, Any] | None = None, **parts: Callable
    ):
        self.learner, self.defaults, self.parts = learner, defaults or {}, parts

    def __call__(self, **hyperparameters: Any) -> L:
        """Raises UserError if a hyperparameter is unknown, or its value impossible."""
        learner = self.learner(**{name: make() for name, make in self.parts.items()})
        return with_hyperparameters(learner, {**self.defaults, **hyperparameters})
