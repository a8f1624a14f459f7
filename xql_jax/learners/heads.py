"""Policy heads beside IQL's `Gaussian`: which distribution over actions a policy gives."""

from typing import Any, ClassVar

import flax.linen as nn
import flax.struct

from xql_jax.learners import fields
from xql_jax.learners.parts import Gaussian
from xql_jax.networks import policies


@flax.struct.dataclass
class StateGaussian(Gaussian):
    """IQL's head, but with a standard deviation that depends on the state."""

    policy: ClassVar[Any] = policies.StateGaussianPolicy


@flax.struct.dataclass
class NarrowGaussian(Gaussian):
    """Onestep RL's head: the deviation depends on the state, begins at 0.08 and stays below 1."""

    policy: ClassVar[Any] = policies.NarrowGaussianPolicy


@flax.struct.dataclass
class Squashed(Gaussian):
    """SAC's head: the tanh of a Gaussian, with the density corrected for the tanh."""

    policy: ClassVar[Any] = policies.TanhGaussianPolicy


@flax.struct.dataclass
class Mixture(Gaussian):
    """Mixture of Gaussians, for data in which different ways lead to the goal."""

    num_components: int = fields.static(5, fields.AT_LEAST_ONE, "Number of Gaussians of a mixture policy.")

    def network(self, action_dim: int) -> nn.Module:
        widths = self.actor_hidden_dims
        return policies.MixturePolicy(action_dim, widths, self.num_components, self.dropout_rate)
