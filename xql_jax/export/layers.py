"""Converts a trained policy into plain layers."""

from typing import Any

import numpy as np

from xql_jax.data.layers import Layers
from xql_jax.data.preprocessing import Preprocessing
from xql_jax.errors import UserError
from xql_jax.learners.train_state import Model
from xql_jax.networks.policies import GaussianPolicy, MixturePolicy
from xql_jax.networks.squashed_policies import DeterministicPolicy, TanhGaussianPolicy


def layers_of(actor: Any, preprocessing: Preprocessing, observation_dim: int) -> Layers:
    """Returns the layers of an actor.

    Args:
        actor: what `Learner.actor` returns for one policy: a network and its parameters.
        preprocessing: the one that it was trained with.
    Raises:
        UserError: if the policy is more than a stack of layers.
    """
    stacks = GaussianPolicy | MixturePolicy | TanhGaussianPolicy | DeterministicPolicy
    if type(actor) is not Model or not isinstance(actor.network, stacks):
        raise UserError(
            "only a policy that is a stack of layers can be exported: not one with a memory (dt), or one "
            "that chooses among samples by Q (bear)"
        )
    network = actor.network
    parameters = actor.params["params"]

    def dense(layer: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(layer["kernel"]), np.asarray(layer["bias"])

    body = parameters.get("MLP_0", {})  # missing if there are no hidden layers
    hidden = tuple(dense(body[f"Dense_{number}"]) for number in range(len(network.hidden_dims)))
    if isinstance(network, MixturePolicy):
        logits, action = dense(parameters["Dense_0"]), dense(parameters["Dense_1"])
    else:
        logits, action = None, dense(parameters["Dense_0"])
    if isinstance(network, TanhGaussianPolicy):  # the second half is for the deviations
        action = action[0][:, : network.action_dim], action[1][: network.action_dim]
    shift, scale = preprocessing.observation_mean, preprocessing.observation_std
    return Layers(
        shift=np.asarray(shift or np.zeros(observation_dim), np.float32),
        scale=np.asarray(scale or np.ones(observation_dim), np.float32),
        hidden=hidden,
        action=action,
        logits=logits,
    )
