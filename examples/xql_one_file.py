"""Extreme Q-learning in one file: Algorithm 1 of Garg et al. (2023), from a dataset to a score.

XQL learns from transitions (s, a, r, s') alone. V(s) is fitted to beta * log E[exp(Q(s, a) / beta)], a soft
maximum of Q over the data's actions (Eq. 11). The policy imitates the data's actions, the more the better
they are (Eq. 12). Q is fitted to r + discount * V(s') (Eq. 14).

The data and the environment come from the library; all else is JAX, Flax and optax. With the same seed and
number of updates the parameters equal those of `xql-train-offline --method=xql` on a point maze, bit for bit.

Run:    python examples/xql_one_file.py [--max_steps=30000] [--seed=42] [--dataset=FILE] [--env_name=TASK]
Prints: a row for each tenth of the updates: the mean of V over the data, and the score of the policy.

Source: Garg et al. 2023 (Extreme Q-Learning), Algorithm 1, Sections 3.3 and 3.4, Appendix D.3.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from xql_jax.data.loading import load_dataset
from xql_jax.data.preprocessing import fit_preprocessing
from xql_jax.envs import environment_maker
from xql_jax.errors import UserError
from xql_jax.rollout.evaluation import episode_seed
from xql_jax.suites.tasks import Task, get_task
from xql_jax.types import Array, Batch, Numeric, Params


class Settings(NamedTuple):
    """The point mazes' values. They are arguments of the program: as its constants they change last bits."""

    beta: float = 0.2  # Gumbel scale, reward units: the smaller, the nearer V is to the maximum of Q
    awr_temperature: float = 30.0  # 1 / reward units; 1 / beta in Eq. 12, but a separate number in their code
    clip: float = 5.0  # bound on z = (Q - V) / beta
    max_weight: float = 100.0  # of an action in the policy's loss
    discount: float = 0.97
    tau: float = 0.02  # Polyak rate of Q's target
    learning_rate: float = 1e-3  # the policy's falls to 0
    max_grad_norm: float = jnp.inf  # inf: gradients are not scaled


HIDDEN_DIMS, BATCH_SIZE = (128, 128), 256
orthogonal = nn.initializers.orthogonal(2.0**0.5)  # IQL's initialisation


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in HIDDEN_DIMS:
            x = nn.relu(nn.Dense(width, kernel_init=orthogonal)(x))
        return x


class Value(nn.Module):
    """V(s) of s [B, S], or Q(s, a) of s and a [B, A]: [B]."""

    @nn.compact
    def __call__(self, *inputs: Array) -> Array:
        x = MLP()(jnp.concatenate(inputs, axis=-1))
        return nn.Dense(1, kernel_init=orthogonal)(x).squeeze(-1)


class Policy(nn.Module):
    """The mean [B, A] and the standard deviation [A] of a Gaussian over actions, for s [B, S]."""

    action_dim: int

    @nn.compact
    def __call__(self, s: Array) -> tuple[Array, Array]:
        mean = jnp.tanh(nn.Dense(self.action_dim, kernel_init=orthogonal)(MLP()(s)))
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        return mean, jnp.exp(jnp.clip(log_std, -5.0, 2.0))


VALUE, CRITIC = Value(), Value()  # V and Q
ADAM = optax.scale_by_adam()  # without a learning rate, which `minimize` applies


class Trained(NamedTuple):
    params: Params
    moments: Any  # Adam's


class Agent(NamedTuple):
    policy: Trained  # pi(a|s)
    value: Trained  # V(s)
    critic: Trained  # Q(s, a)
    target: Params  # of Q's target, which follows Q slowly


@jax.jit
def initial_agent(key: Array, s: Array, a: Array) -> Agent:
    """Line 1 of Algorithm 1: initialises pi, V and Q for states [B, S] and actions [B, A]."""
    key_policy, key_value, key_critic = jax.random.split(key, 3)
    policy = Policy(a.shape[-1]).init(key_policy, s)
    value, critic = VALUE.init(key_value, s), CRITIC.init(key_critic, s, a)
    return Agent(*(Trained(params, ADAM.init(params)) for params in (policy, value, critic)), target=critic)


def gumbel_loss(v: Array, q: Array, h: Settings) -> Array:
    """Eq. 11: the mean of e^z - z - 1, with z = (Q - V) / beta; V = beta * log E[exp(Q / beta)] minimises it.

    As in Appendix D.3, z is clipped, and the loss is multiplied by e^-m so that no exponential is large. Here
    m is the largest z of the minibatch, at least -1, and a constant for the gradient.
    """
    z = jnp.clip((q - v) / h.beta, -h.clip, h.clip)
    m = jax.lax.stop_gradient(jnp.maximum(z.max(), -1.0))
    return (jnp.exp(z - m) - (z + 1.0) * jnp.exp(-m)).mean()


def minimize(loss: Callable[[Params], Array], old: Trained, rate: Numeric, h: Settings) -> Trained:
    """One step of Adam on the gradient, scaled down to `max_grad_norm`."""
    gradient = jax.grad(loss)(old.params)
    shrink = jnp.minimum(1.0, h.max_grad_norm / optax.tree.norm(gradient))
    steps, moments = ADAM.update(jax.tree.map(lambda g: g * shrink, gradient), old.moments)
    return Trained(jax.tree.map(lambda param, step: param - rate * step, old.params, steps), moments)


def update(agent: Agent, batch: Batch, progress: Array, h: Settings) -> Agent:
    """Lines 4 to 6 of Algorithm 1, in the order of the authors' code: V, pi, Q. The box has Q, V, pi."""
    s, a, r, mask, next_s = batch  # the mask is 0 where s' is terminal, else 1
    q = CRITIC.apply(agent.target, s, a)

    def value_loss(params: Params) -> Array:  # Eq. 11
        return gumbel_loss(VALUE.apply(params, s), q, h)

    value = minimize(value_loss, agent.value, h.learning_rate, h)
    v, next_v = jnp.split(VALUE.apply(value.params, jnp.concatenate([s, next_s])), 2)
    weight = jnp.minimum(jnp.exp(h.awr_temperature * (q - v)), h.max_weight)

    def policy_loss(params: Params) -> Array:  # Eq. 12, advantage-weighted regression (AWR)
        mean, std = Policy(a.shape[-1]).apply(params, s)
        return -(weight * jax.scipy.stats.norm.logpdf(a, mean, std).sum(-1)).mean()

    falling_rate = h.learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    policy = minimize(policy_loss, agent.policy, falling_rate, h)

    def critic_loss(params: Params) -> Array:  # Eq. 14
        return ((CRITIC.apply(params, s, a) - (r + h.discount * mask * next_v)) ** 2).mean()

    critic = minimize(critic_loss, agent.critic, h.learning_rate, h)
    return Agent(policy, value, critic, optax.incremental_update(critic.params, agent.target, h.tau))


@jax.jit
def train(agent: Agent, data: Batch, key: Array, start: int, stop: int, end: int, h: Settings) -> Agent:
    """Line 3 of Algorithm 1: runs updates start, ..., stop - 1 of `end` updates in one compiled loop."""

    def step(t: Array, agent: Agent) -> Agent:
        key_rows, _ = jax.random.split(jax.random.fold_in(key, t))  # the other is for methods with noise
        rows = jax.random.randint(key_rows, (BATCH_SIZE,), 0, len(data.rewards))
        return update(agent, jax.tree.map(lambda field: field[rows], data), t / end, h)

    return jax.lax.fori_loop(start, stop, step, agent)


def mean_score(policy: Params, task: Task, episodes: int = 10) -> float:
    """The mean score of the policy's mean action, in the episodes of the library's evaluations."""
    env = environment_maker(task).vector_env(task, episodes)
    act = jax.jit(Policy(env.action_space.shape[0]).apply)
    s, returns = env.reset([episode_seed(10_000, episode) for episode in range(episodes)]), np.zeros(episodes)
    while env.running.any():
        step = env.step(np.asarray(act(policy, s)[0]))
        s, returns = step.observations, returns + step.rewards
    env.close()
    return float(task.normalized_score(returns, step.successes == 1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max_steps", type=int, default=30_000, help="number of updates")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--dataset", help="file of transitions; default: the task's own")
    parser.add_argument("--env_name", default="pointmaze-umaze-v0", help="task, or '' for data without one")
    args = parser.parse_args()
    # Line 2 of Algorithm 1: the transitions of the file or, without one, the task's own.
    try:
        task = get_task(args.env_name) if args.env_name else None
        dataset = load_dataset(task, [args.dataset] if args.dataset else [])
        data = jax.device_put(fit_preprocessing(dataset, task).dataset(dataset).batch)
    except UserError as error:
        parser.error(str(error))
    # The library makes four keys of a seed. The last two are for methods that act while they learn.
    key_init, key_updates, _, _ = jax.random.split(jax.random.key(args.seed), 4)
    agent = initial_agent(key_init, data.observations, data.actions)
    h, end = Settings(), args.max_steps
    print(f"{'updates':>8}{'mean V':>10}{'score':>10}")
    for start, stop in ((end * i // 10, end * (i + 1) // 10) for i in range(10)):
        agent = train(agent, data, key_updates, start, stop, end, h)
        mean_v = VALUE.apply(agent.value.params, data.observations[:10_000]).mean()
        score = mean_score(agent.policy.params, task) if task else jnp.nan
        print(f"{stop:8,}{mean_v:10.2f}{score:10.1f}", flush=True)
    print(f"\nThe last policy has a score of {score:.1f}." if task else "\nNo task, so no score.")


if __name__ == "__main__":
    main()
