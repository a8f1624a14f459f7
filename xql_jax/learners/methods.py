"""Methods: a learner class together with a method's parts and default hyperparameters."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from xql_jax.learners.fields import Part, with_hyperparameters

L = TypeVar("L", bound=Part)


@dataclasses.dataclass(frozen=True)
class FinetuneDefaults:
    """A method's defaults for fine-tuning, used for settings that the command line does not give."""

    num_pretraining_steps: int = 1_000_000
    offline_fraction: float | None = None  # of every minibatch; None: all transitions are equally likely
    warmup_steps: int = 0  # of random actions
    updates_per_step: float = 1.0
    online: str = ""  # hyperparameters that change for the online phase, see `xql_jax/training/ramps.py`


@dataclasses.dataclass(frozen=True)
class RunDefaults:
    """A method's defaults for a run, used for settings that the command line does not give."""

    batch_size: int = 256
    normalize_observations: bool = False
    scale_rewards: bool = True  # where IQL does, see `fit_preprocessing`
    top_returns: float = 1.0  # share of the transitions that are learned from, see `fit_preprocessing`


class Method(Generic[L]):
    """Makes a learner from hyperparameters by their flat names: `XQL(beta=0.6, loss="plain")`.

    Args:
        learner: the class of the learner.
        defaults: the hyperparameters with another default than in the parts' classes.
        by_suite: per suite (see `Task.suite`), the hyperparameters that the method's authors change there.
            The files in configs/ start from these and may override them.
        run, finetune: the method's defaults for a run and for fine-tuning.
        parts: the classes of its parts.
    """

    def __init__(
        self,
        learner: type[L],
        defaults: Mapping[str, Any] | None = None,
        *,
        by_suite: Mapping[str, Mapping[str, Any]] | None = None,
        run: RunDefaults = RunDefaults(),
        finetune: FinetuneDefaults = FinetuneDefaults(),
        **parts: Callable,
    ):
        self.learner, self.defaults, self.parts = learner, defaults or {}, parts
        self.by_suite, self.run, self.finetune = by_suite or {}, run, finetune

    def __call__(self, **hyperparameters: Any) -> L:
        """Makes the learner; raises UserError if a hyperparameter is unknown or its value is impossible."""
        learner = self.learner(**{name: make() for name, make in self.parts.items()})
        return with_hyperparameters(learner, {**self.defaults, **hyperparameters})
