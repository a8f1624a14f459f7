"""Policy heads: which distribution over actions a policy gives."""

import flax.linen as nn
import flax.struct

from xql_jax.learners import fields
from xql_jax.networks.policies import (
    GaussianPolicy,
    MixturePolicy,
    NarrowGaussianPolicy,
    StateGaussianPolicy,
)
from xql_jax.networks.squashed_policies import TanhGaussianPolicy


@flax.struct.dataclass
class Gaussian(fields.Part):
    """IQL's head: the mean is a tanh, the standard deviation does not depend on the state."""

    actor_hidden_dims: tuple[int, ...] = fields.widths(256, 256)
    dropout_rate: float = fields.static(0.0, fields.BELOW_ONE)  # while training

    def network(self, action_dim: int) -> nn.Module:
        return GaussianPolicy(action_dim, self.actor_hidden_dims, self.dropout_rate)


@flax.struct.dataclass
class StateGaussian(Gaussian):
    """IQL's head, but with a standard deviation that depends on the state."""

    def network(self, action_dim: int) -> nn.Module:
        return StateGaussianPolicy(action_dim, self.actor_hidden_dims, self.dropout_rate)


@flax.struct.dataclass
class NarrowGaussian(Gaussian):
    """Onestep RL's head: the deviation depends on the state, begins at 0.08 and stays below 1."""

    def network(self, action_dim: int) -> nn.Module:
        return NarrowGaussianPolicy(action_dim, self.actor_hidden_dims, self.dropout_rate)


@flax.struct.dataclass
class Squashed(Gaussian):
    """SAC's head: the tanh of a Gaussian, with the density corrected for the tanh."""

    def network(self, action_dim: int) -> nn.Module:
        return TanhGaussianPolicy(action_dim, self.actor_hidden_dims, self.dropout_rate)


@flax.struct.dataclass
class Mixture(Gaussian):
    """Mixture of Gaussians, for data in which different ways lead to the goal."""

    num_components: int = fields.static(5, fields.AT_LEAST_ONE, "Number of Gaussians of a mixture policy.")

    def network(self, action_dim: int) -> nn.Module:
        widths = self.actor_hidden_dims
        return MixturePolicy(action_dim, widths, self.num_components, self.dropout_rate)
