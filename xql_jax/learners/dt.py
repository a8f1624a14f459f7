"""Decision Transformer: clones actions given the return that follows them (Chen et al. 2021, Algorithm 1).

Hyperparameters: kzl/decision-transformer, gym/experiment.py, lines 41-52 (scale) and 288-301; the clipped
gradient: gym/decision_transformer/training/seq_trainer.py, line 28; at most 1,000 timesteps: experiment.py,
line 40.

Differs: the authors ask for a fixed return per robot (3600 for hopper, 12000 for halfcheetah, 5000 for
walker2d, and half of each; experiment.py, lines 38-52) in the environment's rewards, and divide returns by
1000. Here returns are sums of the rewards that all methods learn from; for locomotion they span 1000. The
default target is the highest return of the data, and the scale of each suite brings returns into the authors'
range of a few units. On AntMaze every step costs -1, so the highest return is that of the shortest
trajectory, which no policy can reach from a far start: set `target_return` there. All weights are initialised
as in GPT-2, normal with deviation 0.02. The authors leave the layers outside GPT-2 at PyTorch's defaults, so
embeddings of timesteps that were never seen are as large as all others. The last step before a time-out is
not learned from, because D4RL's own `qlearning_dataset` drops it. If the data end within a trajectory, the
authors leave it out; here it counts as complete, with the return that it has. They train for 100,000 updates
(--max_steps=100000).
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from xql_jax.errors import UserError
from xql_jax.learners.method import Method, rate_setting
from xql_jax.learners.parts import LearnerState, NetworkState, Trained
from xql_jax.networks.sequence import DecisionTransformerPolicy
from xql_jax.settings import (
    AT_LEAST_ONE,
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_OR_OFF,
    Domain,
    static,
    traced,
)
from xql_jax.types import Array, Metrics, Numeric, Params, PRNGKey, Windows

A_RETURN = Domain("or inf for the highest return of the data", lambda x: x > -float("inf"), True)


class TransformerState(LearnerState, kw_only=True):
    """The network's state, and the highest return of the data, which is known from the first update on."""

    highest_return: Array  # f32[]


class Memory(NamedTuple):
    """The latest steps of each episode, and the return that is still asked for."""

    window: Windows  # of the last K steps
    return_to_go: Array  # f32[B], at the last step; at the start, of the whole episode
    steps: Array  # i32[B], taken so far


class DecisionTransformer(Trained):
    """A causal transformer that predicts the data's action from the previous steps and the return-to-go."""

    target_return: Numeric = traced(
        jnp.inf, A_RETURN, "Return asked for, of rewards as they are learned from; inf: the data's highest."
    )
    return_scale: Numeric = traced(1000.0, POSITIVE, "Returns-to-go are divided by this.")
    actor_lr: Numeric = rate_setting(1e-4, "the policy")
    actor_warmup_steps: Numeric = traced(
        10_000.0, AT_LEAST_ONE, "Updates over which the learning rate grows to its full value."
    )
    weight_decay: Numeric = traced(1e-4, NOT_NEGATIVE, "Weight decay of AdamW.")
    max_grad_norm: Numeric = traced(0.25, POSITIVE_OR_OFF)
    context_length: int = static(20, AT_LEAST_ONE, "Latest steps that the transformer sees.")
    max_timesteps: int = static(
        1000, AT_LEAST_ONE, "Timesteps with an embedding of their own; later steps share the last one."
    )
    embed_dim: int = static(128, AT_LEAST_ONE, "Width of the transformer.")
    num_layers: int = static(3, AT_LEAST_ONE, "Layers of the transformer.")
    num_heads: int = static(1, AT_LEAST_ONE, "Attention heads; must divide embed_dim.")
    dropout_rate: float = static(0.1, BELOW_ONE, "Dropout of the policy's hidden layers in training.")
    batch_type: ClassVar[type] = Windows

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embed_dim % self.num_heads:
            raise UserError(f"num_heads must divide embed_dim, {self.embed_dim}, and not be {self.num_heads}")

    def init(self, key: PRNGKey, observations: Array, actions: Array) -> TransformerState:
        shape = self.embed_dim, self.num_layers, self.num_heads, self.dropout_rate, self.max_timesteps
        network = DecisionTransformerPolicy(actions.shape[-1], *shape)
        example = self._no_steps(1, observations.shape[-1], actions.shape[-1])
        policy = NetworkState.create(network, network.init(key, example))
        return TransformerState(jnp.zeros((), jnp.int32), policy, highest_return=jnp.float32(0.0))

    def update(
        self, state: TransformerState, batch: Windows, key: PRNGKey
    ) -> tuple[TransformerState, Metrics]:
        """One step of AdamW on the squared error of the actions, averaged over all steps except padding."""
        before = state.policy

        def loss(params):
            predicted = before.in_training(params, self._scaled(batch), key)
            errors = jnp.square(predicted - batch.actions).mean(-1)
            actor_loss = (errors * batch.known).sum() / batch.known.sum()
            return actor_loss, {"actor/loss": actor_loss}

        rate = self.actor_lr * jnp.minimum(1.0, (state.step + 1) / self.actor_warmup_steps)
        policy, info = self.minimize(before, loss, rate)
        shrink = rate * self.weight_decay
        params = jax.tree.map(lambda new, old: new - shrink * old, policy.params, before.params)
        policy, highest = policy.replace(params=params), batch.highest_return[0]
        return TransformerState(state.step + 1, policy, highest_return=highest), info

    def actor(self, state: TransformerState) -> tuple[NetworkState, Array]:
        """The network, and the highest return of the data."""
        return NetworkState(state.policy.network, state.policy.params), state.highest_return

    def act(self, actor: Params, observations: Array, key: PRNGKey, deterministic: bool) -> Array:
        """Actions f32[B, A] at the first step of an episode; always deterministic."""
        no_rewards = jnp.zeros(len(observations))
        return self.act_remembering(actor, self.begin(actor, observations), observations, no_rewards)[0]

    def begin(self, actor: Params, observations: Array) -> Memory:
        """Returns the memory, arrays [B, ...], of episodes that begin with observations f32[B, O]."""
        network, highest_return = actor
        size, observation_dim = observations.shape
        target = jnp.where(jnp.isinf(self.target_return), highest_return, self.target_return)
        window = self._no_steps(size, observation_dim, network.network.action_dim)
        return Memory(window, jnp.broadcast_to(target, (size,)), jnp.zeros(size, jnp.int32))

    def act_remembering(
        self, actor: Params, memory: Memory, observations: Array, rewards: Array
    ) -> tuple[Array, Memory]:
        """Returns the next actions and memory; the return-to-go falls by the reward of the previous step."""
        return_to_go = memory.return_to_go - rewards
        # Zeros stand in for the unknown action: the causal mask hides them from the observation's token.
        now = (observations, jnp.zeros_like(memory.window.actions[:, 0]), return_to_go, memory.steps)
        window = _pushed(memory.window, *now)
        network, _ = actor
        actions = network(self._scaled(window))[:, -1]
        window = window._replace(actions=window.actions.at[:, -1].set(actions))
        return actions, Memory(window, return_to_go, memory.steps + 1)

    def _scaled(self, windows: Windows) -> Windows:
        return windows._replace(returns_to_go=windows.returns_to_go / self.return_scale)

    def _no_steps(self, size: int, observation_dim: int, action_dim: int) -> Windows:
        """Windows that hold only padding."""
        shape = size, self.context_length
        observations, actions = jnp.zeros((*shape, observation_dim)), jnp.zeros((*shape, action_dim))
        timesteps, known = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, bool)
        return Windows(observations, actions, jnp.zeros(shape), timesteps, known, jnp.zeros(size))


def _pushed(window: Windows, *now: Array) -> Windows:
    """The window with one more known step; the oldest step is dropped."""
    latest = (*now, jnp.ones(len(window.known), bool))

    def push(steps: Array, new: Array) -> Array:
        return jnp.concatenate([steps[:, 1:], new[:, None]], axis=1)

    return Windows._make((*map(push, window[:-1], latest), window.highest_return))


METHODS = {"dt": Method(DecisionTransformer, settings={"batch_size": 64, "normalize_observations": True})}
