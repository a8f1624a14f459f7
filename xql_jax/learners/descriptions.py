"""Descriptions of all hyperparameters, for `--print_config` and the documentation."""

import dataclasses
from typing import Any

from xql_jax.learners import fields
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner

# Keyed by name, because a name means the same in every method. If it does not, the key Class.name goes first.
MEANINGS = {
    # The value function.
    "beta": "Scale of the Gumbel regression, in reward units. V is beta * log E[exp(Q / beta)] over the "
    "data's actions: near the maximum of Q for a small beta, near its mean for a large one.",
    "Maclaurin.beta": "Scale of the expanded Gumbel loss, in reward units. V is near the maximum of Q for a "
    "small beta, near its mean for a large one.",
    "clip": "Bound on the exponent (Q - V) / beta; inf: no bound. Table 4 of the paper calls it Grad Clip.",
    "clip_rule": "Effect of the clip. both: no gradient beyond +-clip; above: no gradient beyond +clip; "
    "saturate: beyond +clip the loss continues as its tangent.",
    "loss": "Form of the Gumbel loss. rescaled: divided by exp of the batch's largest exponent (Appendix "
    "D.3); plain: as in Eq. 11; log: the logarithm of 1 + its mean.",
    "expectile": "Expectile of Q that V is fitted to: 0.5 is the mean, near 1 the maximum.",
    "alpha": "Scale of the soft maximum of Q that V is fitted to, in reward units: the maximum for alpha "
    "near 0, the mean for a large alpha.",
    "tradeoff": "Lambda of f-DVL. The larger it is, the nearer V is to the maximum of Q.",
    "order": "Order at which the Gumbel loss is expanded: 2 is least squares, a higher one is nearer to XQL.",
    "least_scale": "Constant that is added to beta(s) before the policy's advantages are divided by it, in "
    "reward units.",
    "errors_share": "Beta as a multiple of the Gumbel scale of the Bellman errors.",
    "beta_rate": "Polyak rate at which log beta follows the scale of the batch's Bellman errors, per update.",
    "initial_beta": "Beta before the first update, in reward units.",
    "least_beta": "Beta is never below this, in reward units.",
    "value_lr": "Learning rate of V.",
    "value_hidden_dims": "Widths of the hidden layers of V.",
    "layer_norm": "Normalise the hidden layers of V.",
    "v_updates": "Gradient steps of V per update, all on the same minibatch.",
    "uses_value_network": "Learn Q's targets with a network for V. If false, they come from the policy's own "
    "actions.",
    "value_actions": "Number of the policy's actions over which Q is averaged to give V(s).",
    "uniform_actions": "Uniformly random actions that are added to V's loss, per action of the data.",
    "action_noise": "Standard deviation of the noise that is added to the data's actions in V's loss.",
    # The policy.
    "awr_temperature": "Multiplies the advantage in the policy's objective, in 1 / reward units: 0 clones "
    "the data, a large value follows only the best actions.",
    "max_weight": "Largest weight that an action of the data may have in the policy's loss; inf: no bound.",
    "actor_lr": "Learning rate of the policy.",
    "decay_actor_lr": "Let the policy's learning rate fall to 0 along a half cosine over --max_steps.",
    "actor_hidden_dims": "Widths of the hidden layers of the policy.",
    "dropout_rate": "Dropout rate of the policy's hidden layers in training.",
    "num_components": "Number of Gaussians of a mixture policy.",
    "cloning_updates": "Number of updates at the start in which the policy only clones the data.",
    "anchor_tau": "Polyak rate, per update, of the slow copy of the policy that the policy is kept near.",
    "q_weight": "Weight of Q relative to cloning the data; 0: only cloning.",
    "actor_bc_coef": "Weight of the policy's squared distance from the data's actions.",
    "actor_period": "Updates of Q per update of the policy.",
    "exploration_noise": "Standard deviation of the noise that is added to the policy's actions while it "
    "collects data.",
    "initial_entropy_coef": "Entropy coefficient before the first update, in reward units per nat.",
    "entropy_coef_lr": "Learning rate of the entropy coefficient.",
    "target_entropy_share": "Target entropy of the policy as a multiple of SAC's, which is -1 nat per action "
    "dimension.",
    # The clone that BRAC-p and BEAR stay near.
    "behavior_lr": "Learning rate of the clone of the data's policy.",
    "behavior_hidden_dims": "Widths of the hidden layers of the clone of the data's policy.",
    "divergence_samples": "Actions per state that are sampled from the policy and from the clone to estimate "
    "their distance.",
    "warm_start": "Number of updates at the start in which the policy only follows the clone and ignores Q.",
    "brac_alpha": "Penalty of the policy per unit of divergence from the clone, in reward units.",
    "divergence": "Distance between the policy and the clone: kl, or mmd, the maximum mean discrepancy.",
    "kernel": "Kernel of the maximum mean discrepancy.",
    "mmd_sigma": "Width of the discrepancy's kernel.",
    "mmd_threshold": "Largest discrepancy that the policy may have from the clone.",
    "multiplier_lr": "Learning rate of the multiplier that enforces the threshold.",
    "min_share": "Weight of the smallest critic in Q's targets; the largest critic has the rest. 1: only the "
    "smallest.",
    "backup_actions": "Actions of the policy that are sampled per next state; the best gives Q's target.",
    "evaluation_actions": "Actions per state that the evaluated policy samples; it takes the one with the "
    "largest Q.",
    # The critic.
    "discount": "Discount of rewards, per step.",
    "tau": "Polyak rate: the share by which target networks move to the trained ones, per update of the "
    "targets.",
    "kernel_init": "Initial kernels of TD3's networks. uniform: within 1 / sqrt(inputs); orthogonal: gain 1, "
    "as in the authors' released configs. Biases start at 0.",
    "critic_lr": "Learning rate of Q.",
    "critic_hidden_dims": "Widths of the hidden layers of Q.",
    "critic_layer_norm": "Normalise the hidden layers of Q.",
    "critic_loss": "Loss of Q: mse (half the squared error) or huber.",
    "critic_bc_coef": "Penalty on Q's targets per squared distance from the data's next action, in reward "
    "units.",
    "num_critics": "Number of critics. Targets use the minimum of all of them, or of num_min_critics.",
    "num_min_critics": "Number of critics over which a target takes the minimum; they are drawn anew in each "
    "update.",
    "target_period": "Updates of Q per update of the target networks.",
    "target_noise": "Standard deviation of the noise that is added to the action in Q's targets.",
    "target_noise_clip": "Bound on the noise that is added to the action in Q's targets.",
    "backup_entropy": "Include the policy's entropy in Q's targets.",
    "deterministic_backup": "Leave the policy's entropy out of Q's targets.",
    "cql_alpha": "Weight of the penalty that lowers Q at actions that are not in the data.",
    "cql_threshold": "Value of cql_alpha times the gap between Q at sampled and at the data's actions that a "
    "tuned multiplier aims at; inf: no multiplier.",
    "cql_actions": "Actions per state at which Q is lowered, of each of three kinds: uniform, and the "
    "policy's at s and at s'.",
    # All networks.
    "max_grad_norm": "Gradients with a larger norm are scaled down to this norm; inf: never.",
    # The Decision Transformer.
    "target_return": "Return that the policy is asked for, in reward units; inf: the highest of the data.",
    "return_scale": "Returns-to-go are divided by this, in reward units.",
    "actor_warmup_steps": "Updates over which the learning rate grows to its full value.",
    "weight_decay": "Weight decay of AdamW.",
    "context_length": "Number of the latest steps of the episode that the transformer sees.",
    "max_timesteps": "Number of timesteps with an embedding of their own; later steps share the last one.",
    "embed_dim": "Width of the transformer.",
    "num_layers": "Layers of the transformer.",
    "num_heads": "Attention heads of each layer; must divide embed_dim.",
    # Settings of the run, and fields of the online configs.
    "batch_size": "Transitions in a minibatch.",
    "buffer_size": "Transitions that the replay buffer of each seed holds; the oldest are overwritten.",
    "warmup_steps": "Number of environment steps at the start with random actions and without updates.",
    "updates_per_step": "Updates per step of the environment.",
}

# The most important hyperparameters. The line that describes a run shows those that its method has.
LEADING = (
    "beta",
    "expectile",
    "alpha",
    "tradeoff",
    "order",
    "errors_share",
    "least_scale",
    "clip",
    "awr_temperature",
    "q_weight",
    "actor_bc_coef",
    "critic_bc_coef",
    "cql_alpha",
    "brac_alpha",
    "mmd_threshold",
    "target_return",
    "discount",
    "actor_lr",
    "num_critics",
    "network",
    "batch_size",
    "warmup_steps",
    "updates_per_step",
)


@dataclasses.dataclass(frozen=True)
class FieldDescription:
    """A hyperparameter of a method."""

    name: str  # flat, as in `--config.NAME`
    default: Any  # as a config has it: functions by their names
    domain: str  # the values that it may have, in words
    meaning: str  # empty for a field that `MEANINGS` does not know, such as one of your own method
    source: str  # which class or method has the default


def describe_fields(algorithm: str | fields.Part) -> list[FieldDescription]:
    """Describes the hyperparameters of a method, in the order of its config.

    Args:
        algorithm: METHOD or METHOD+POLICY, see `registry.make_learner`; or a learner or another `Part`, whose
            values are taken for the defaults.
    Raises:
        UserError: if there is no such method.
    """
    learner = make_learner(algorithm) if isinstance(algorithm, str) else algorithm
    method = algorithm.split("+")[0] if isinstance(algorithm, str) else ""
    own = (OFFLINE | ONLINE)[method].defaults if method else {}
    values = fields.hyperparameters(learner)
    return [
        FieldDescription(
            name,
            values[name],
            fields.domain_of(owner, name),
            meaning_of(owner, name),
            f"method {method}" if name in own else type(owner).__name__,
        )
        for name, owner in fields.owners(learner).items()
    ]


def meaning_of(owner: fields.Part, name: str) -> str:
    """Returns the description of the field in its class; empty if there is none."""
    by_class = (MEANINGS.get(f"{kind.__name__}.{name}") for kind in type(owner).__mro__)
    return next(filter(None, by_class), MEANINGS.get(name, ""))
