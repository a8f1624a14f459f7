"""A user's program with types, which tests/test_typed_user.py gives to `mypy --strict` and then runs.

Each `assert_type` holds for mypy and for the value. A line with `type: ignore` is a mistake: if mypy
no longer finds it, it says that the comment is unused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import assert_type

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

import xql_jax
from xql_jax.losses.gumbel import gumbel_loss, gumbel_rescaled_loss
from xql_jax.losses.regression import expectile_loss, mse_loss
from xql_jax.policy import Evaluation
from xql_jax.theory.regression import gumbel_regression


def enough(step: int, numbers: Mapping[str, float]) -> bool:
    score = assert_type(numbers.get("score", 0.0), float)
    return step > 5 and score > 90.0


def learn_from_arrays() -> xql_jax.Policy:
    states = np.random.default_rng(0).normal(size=(100, 4))
    arrays: dict[str, ArrayLike] = {
        "observations": states,
        "actions": jnp.linspace(-1, 1, 100)[:, None],
        "rewards": [0.0] * 100,
    }
    dataset = arrays | {"next_observations": states, "terminals": np.ones(100, bool)}
    policies = xql_jax.train(dataset=dataset, max_steps=10, hidden_dims=(8,), sweep={"tau": [0.1, 0.2]})
    return assert_type(policies, xql_jax.Policy).select(seed=42, tau=0.1)


def learn_a_task() -> xql_jax.Policy:
    maze = "pointmaze-umaze-v0"
    policy = xql_jax.train(maze, max_steps=10, eval_episodes=1, hidden_dims=(8,), callbacks=[enough])
    tuned = xql_jax.train_finetune(checkpoint=policy, max_steps=10, eval_episodes=1, save_dir=Path("tuned"))
    learned = xql_jax.train_online(maze, method="td3", max_steps=20, warmup_steps=10, eval_episodes=0)
    assert_type(learned, xql_jax.Policy)
    return xql_jax.load_policy(tuned.path / "checkpoints" / "10", seed=42)


def ask(policy: xql_jax.Policy, env: gymnasium.Env[NDArray[np.float64], NDArray[np.float32]] | None) -> None:
    observations = np.zeros((2, policy.observation_dim))
    assert_type(policy.value(observations), NDArray[np.float32])
    assert_type(policy.value(jnp.zeros(policy.observation_dim)), NDArray[np.float32])
    assert_type(policy.value([0.0] * policy.observation_dim), NDArray[np.float32])
    actions = assert_type(policy(observations), NDArray[np.float32])
    assert_type(policy(observations, key=0), NDArray[np.float32])
    assert_type(policy.chunk(observations, key=jax.random.key(0)), NDArray[np.float32])
    assert_type(policy.q(observations, actions), NDArray[np.float32])
    assert_type(policy.path, Path)
    assert_type(policy.step, int)
    assert_type([member.seed for member in policy.members], list[int])
    results = assert_type(policy.evaluate(env, episodes=2), Evaluation)
    assert_type(results["returns"], NDArray[np.float64])
    assert_type(results["score_interval_95"], float | None)


def learn_values() -> None:
    targets = np.random.default_rng(0).gumbel(size=50)
    values = jnp.zeros(50)
    for loss in (gumbel_loss, gumbel_rescaled_loss):
        assert_type(loss(values, targets, beta=0.5, clip=7.0), jax.Array)
        assert_type(loss(np.zeros(50), targets, beta=jnp.float32(0.5)), jax.Array)
    assert_type(expectile_loss(np.zeros(50), targets, expectile=0.7), jax.Array)
    assert_type(mse_loss(values, jnp.asarray(targets)), jax.Array)
    fitted = gumbel_regression(targets[:, None], targets, beta=2.0, num_updates=10_000)
    assert_type(fitted(targets[:, None]), NDArray[np.float64])


def mistakes(policy: xql_jax.Policy, values: jax.Array) -> None:
    xql_jax.train("pointmaze-umaze-v0", max_steps="many")  # type: ignore[arg-type]
    xql_jax.train_online(max_steps=10, callbacks=enough)  # type: ignore[arg-type]
    xql_jax.trian("pointmaze-umaze-v0", max_steps=10)  # type: ignore[attr-defined]
    xql_jax.load_policy(policy.path, seed=0, tau="0.1")  # type: ignore[arg-type]
    policy.evaluate(episode=1)  # type: ignore[call-arg]
    policy.act(values)  # type: ignore[attr-defined]
    print(policy.evaluate()["retuns"])  # type: ignore[typeddict-item]
    gumbel_loss(values, values)  # type: ignore[call-arg]
    gumbel_loss(values, values, beta=1.0, clip_rule="both")  # type: ignore[arg-type]
    expectile_loss(values, values, tau=0.7)  # type: ignore[call-arg]
    gumbel_regression(values, values, 1.0, num_updates="many")  # type: ignore[arg-type]


if __name__ == "__main__":
    ask(learn_from_arrays(), gymnasium.make("InvertedPendulum-v5"))
    ask(learn_a_task(), None)
    learn_values()
