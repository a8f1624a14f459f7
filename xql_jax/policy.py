"""A run's policy in Python. It takes the environment's own observations and applies the preprocessing."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from xql_jax.data.comparison import Met, observations_told, warned
from xql_jax.envs import EnvironmentMaker, environment_maker
from xql_jax.errors import UserError
from xql_jax.files.paths import paths_from_here
from xql_jax.learners.registry import method_of
from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.rollout.acting import Act, RecurrentPolicy
from xql_jax.rollout.evaluation import EVALUATION_START_SEED, Evaluator
from xql_jax.rollout.scores import describe_episodes
from xql_jax.runs.load import Run, load_run
from xql_jax.suites.tasks import OWN, RETURN_ITSELF, Task, own_attribute
from xql_jax.training.members import Member, learners_of
from xql_jax.types import ActionBounds, Json, Learner, Params, State

if TYPE_CHECKING:  # takes half a second to import
    import gymnasium


def load_policy(run: str | Path, *, seed: int | None = None, **hyperparameters: float) -> "Policy":
    """Returns the policy of a run, finished or stopped.

    Args:
        run: the run's folder, for its last checkpoint, or RUN/checkpoints/STEP.
        seed, hyperparameters: select members of a run with several seeds or a sweep. If several members are
            left, choose a member with `Policy.select` before acting.
    Raises:
        UserError: if there is no such run, checkpoint or member, or it is damaged.
    """
    saved = load_run(run)
    return Policy(saved, saved.members, saved.states).select(seed=seed, **hyperparameters)


def _reopened(path: str, step: int, members: list[str], method: str) -> "Policy":
    """Returns the policy of these members at a step, as it was pickled; a user's method is imported."""
    if ":" in method:
        own_attribute(method, "method")
    saved = load_run(path, step)
    return Policy(saved, [member for member in saved.members if member.name in members], saved.states)


class Evaluation(TypedDict):
    """The results of E episodes, and the statistics that `xql-evaluate` writes."""

    returns: NDArray[np.float64]  # [E], undiscounted, in the environment's reward units
    lengths: NDArray[np.int64]  # [E], steps
    successes: NDArray[np.bool_] | None  # [E]; None, as the two below, if the task does not tell
    success_rate: float | None
    success_interval_95: list[float] | None  # both ends
    scores: list[float]  # the returns themselves, if the task has no reference returns
    score_mean: float
    score_median: float
    score_interval_95: float | None  # the half-width of the mean's interval; None for one episode
    return_mean: float
    length_mean: float
    episodes: int  # E


class Policy:
    """The policies of a run's members, each trained with one seed and one setting of the hyperparameters.

    With a single member, it acts: call it with the environment's own observations. It is pickled by its run's
    path and its step, not with its numbers: where it is unpickled, as in a process of `multiprocessing`, the
    folder must still be there. It then begins without a memory.

    Attributes:
        run, path: the saved run, and its folder.
        step: the number of updates, or online of environment steps, that it was trained for.
        members: the seeds and hyperparameters of the members.
        observation_dim, action_dim: numbers of entries of an observation and of an action.
        action_chunk: the number h of actions that it decides on at once, 1 for most.
    """

    def __init__(self, run: Run, members: list[Member], states: Mapping[str, State]):
        self.run, self.members, self._states = run, members, states
        self.path, self.step = run.path, run.step
        self.observation_dim, self.action_dim = run.sizes
        self.action_chunk = run.preprocessing.action_chunk

    @property
    def summary(self) -> Json:
        """The content of the run's summary.json: scores, seconds, divergences; {} while the run goes on."""
        return self.run.summary

    def select(self, *, seed: int | None = None, **hyperparameters: float) -> "Policy":
        """Returns the policy of the members with this seed and these values; UserError if there is none."""
        known = self.members[0].hyperparameters
        if unknown := [name for name in hyperparameters if name not in known]:
            varied = ", ".join(known) or "only its seeds"
            raise UserError(f"{self.path}: the run does not vary {unknown[0]}: it varies {varied}")
        try:
            number = None if seed is None else float(seed)
            wanted = {name: float(value) for name, value in hyperparameters.items()}
        except (TypeError, ValueError):
            raise UserError("select: give a seed, and values of hyperparameters, as numbers") from None
        chosen = []
        for member in self.members:
            values = [member.hyperparameters[name] for name in wanted]
            has_values = np.allclose(values, [*wanted.values()], 1e-6, 0.0)
            if number in (None, member.seed) and has_values:
                chosen.append(member)
        if not chosen:
            raise UserError(f"{self.path}: no such member; there are {self._listed()}")
        return Policy(self.run, chosen, self._states)

    def __call__(self, observations: ArrayLike, key: int | jax.Array | None = None) -> NDArray[np.float32]:
        """Returns the actions for an observation or a batch, in the units that `env.step` takes.

        They are within the environment's bounds. If the run learned from data alone, they are in the data's
        units and within the data's range, entry by entry; `evaluate` scales them from [-1, 1] to an
        environment's bounds.

        Args:
            observations: f32[..., O], alone or in a batch: the run's preprocessing is applied. Those of an
                environment with more axes are flattened.
            key: None returns the likeliest actions, as in evaluations. A JAX key, or a seed of a key, draws
                actions from the policy.
        Returns:
            f32[..., A], finite. A policy that decides on chunks of h actions carries them out: it decides in
            every h-th call since `begin`. See `chunk`.
        Raises:
            UserError: if the observations are not finite numbers that fit, there are several members, or a
                a policy with a memory gets a key.
        """
        if key is not None and self.action_chunk > 1:
            raise UserError(f"{self.run.method} decides on chunks of actions: policy.chunk draws them")
        return self._actions(observations, key, self._act, self.action_dim)

    def chunk(self, observations: ArrayLike, key: int | jax.Array | None = None) -> NDArray[np.float32]:
        """Returns the h actions that the policy decides on, f32[..., h, A]; arguments as for a call of it."""
        return self._actions(observations, key, self._decide, self.action_chunk, self.action_dim)

    def value(self, observations: ArrayLike) -> NDArray[np.float32]:
        """Returns V of the environment's own observations f32[..., O], as f32[...].

        V and Q are the learner's own: XQL's V is a soft maximum of Q, SAC's contains the entropy. Both are in
        the reward units of the data, which D4RL's kitchen does not share with its environment. AntMaze's
        rewards are learned less 1.
        UserError if the method learns none: bc and dt, and td3 no V.
        """
        seen = _numbers("observations", observations, (self.observation_dim,))
        return self._estimates("V(s)", "value", seen)

    def q(self, observations: ArrayLike, actions: ArrayLike) -> NDArray[np.float32]:
        """Returns Q, the minimum over the critics, as f32[...]; see `value`.

        `actions` are f32[..., A], in the units that the policy returns; of chunks f32[..., h, A] as `chunk`
        returns them, or all in a row, f32[..., h * A].
        """
        seen = _numbers("observations", observations, (self.observation_dim,))
        chunk, batch = (self.action_chunk, self.action_dim), seen.shape[:-1]
        taken = _numbers("actions", actions, (math.prod(chunk),), chunk, batch=batch)
        taken = self.run.preprocessing.chunk_bounds.to_learner(taken.reshape(*batch, math.prod(chunk)))
        return self._estimates("Q(s, a)", "critic", seen, taken)

    @paths_from_here()
    def evaluate(
        self,
        env: "str | gymnasium.Env | None" = None,
        *,
        episodes: int = 10,
        seed: int = EVALUATION_START_SEED,
        max_steps: int = 10_000,
        allow_other_bounds: bool = False,
    ) -> Evaluation:
        """Runs episodes with the policy's likeliest actions, the same episodes as `xql-evaluate`.

        Args:
            env: a task's name, or an environment of Gymnasium, which stays open. None: the run's own task.
                Actions that were learned from data alone are scaled to its bounds.
            seed: episode e depends on (seed, e) alone.
            max_steps: of an episode in the caller's environment; UserError if an episode is longer.
            allow_other_bounds: act in the run's units where an environment takes other actions than the run
                learned; else that is a UserError.
        """
        for name, value, least in (("episodes", episodes, 1), ("seed", seed, 0), ("max_steps", max_steps, 1)):
            if type(value) is bool or not isinstance(value, int | np.integer) or value < least:
                raise UserError(f"{name}={value!r}: must be a whole number, at least {least}")
        simulation = None if isinstance(env, str) else env
        named = env if isinstance(env, str) else None
        run = load_run(self.path, self.step, env_name=named, allow_other_bounds=allow_other_bounds)
        if simulation is None:
            task, maker = run.task, environment_maker(run.task)
        else:
            from xql_jax.envs.registered import Registered  # loads a simulator

            task = Task(str(simulation), OWN, None, *RETURN_ITSELF, episode_limit=None)
            make = functools.partial(Registered, simulation=simulation, longest=max_steps)
            maker = EnvironmentMaker(make, max_environments=1)
        with settings_of_jax(), contextlib.ExitStack() as stack:
            # The caller's environment may record its episodes, so only the asked-for episodes run in it.
            evaluator = Evaluator(task, 1, episodes, seed, maker=maker, checks_seeds=simulation is None)
            if simulation is None:
                stack.callback(evaluator.close)
            run.check_fits(task, *evaluator.sizes)
            if simulation is None:
                run.compared_with(task, evaluator.env)
            else:
                bounds = run.bounds_in(task.name, ActionBounds.of(evaluator.env.action_space))
                run.preprocessing = dataclasses.replace(run.fitted, action_bounds=bounds)
            results = evaluator.run(run.policy([self.member]))
            if simulation is not None and run.ranges:
                space = evaluator.env.observation_space
                met = Met(space.low, space.high, evaluator.starts, lambda: evaluator.starts)
                warned(observations_told(run.ranges, met, task.name))
        [statistics] = describe_episodes(results, task)
        statistics["returns"], statistics["lengths"] = results.returns[0], results.lengths[0]
        statistics["successes"] = None if results.successes is None else results.successes[0]
        return cast(Evaluation, statistics)

    def begin(self) -> None:
        """Clears the policy's memory, if any (dt, chunks of actions): call it when episodes begin."""
        if isinstance(self._act, RecurrentPolicy):
            self._act.begin()

    def remember(self, rewards: ArrayLike) -> None:
        """Tells a policy with a memory the rewards of its last actions, f32[...], the environment's own."""
        if isinstance(self._act, RecurrentPolicy):
            self._act.remember(_numbers("rewards", rewards, ()).reshape(1, -1))

    def __reduce__(self) -> tuple[Callable[..., "Policy"], tuple[object, ...]]:
        names = [member.name for member in self.members]
        return _reopened, (str(self.path), self.step, names, method_of(self.run.method))

    def __repr__(self) -> str:
        said = "; ".join([self._listed(), *self.run.caveats(self.members)])
        return f"<{self.run.method} on {self.run.dataset} after {self.run.in_words(self.step)}: {said}>"

    def _actions(
        self, observations: ArrayLike, key: int | jax.Array | None, act: Act, *sizes: int
    ) -> np.ndarray:
        """Returns the actions f32[..., *sizes] that `act` gives, or that the key draws."""
        seen = _numbers("observations", observations, (self.observation_dim,))
        batch = seen.reshape(-1, self.observation_dim)
        actions = act(batch[None])[0] if key is None else self._drawn(batch, key)
        if len(actions) != len(batch):  # the queue's of another batch
            raise UserError(
                f"{len(batch)} observations, but the chunks that are carried out are of {len(actions)}: call "
                "policy.begin() when episodes begin"
            )
        actions = _finite("the action", np.array(actions))  # the caller's own
        return actions.reshape(*seen.shape[:-1], *sizes)

    @settings_of_jax()
    def _estimates(self, what: str, part: str, seen: np.ndarray, *taken: np.ndarray) -> np.ndarray:
        run, state = self.run, getattr(self._states[self.member.name], part, None)
        if state is None:
            raise UserError(f"{run.method} learns no {what}")
        estimate = np.asarray(_estimate(state, run.preprocessing.observations(seen), *taken))
        return _finite(what, np.asarray(estimate / np.float32(run.preprocessing.reward_scale)))

    def _drawn(self, batch: np.ndarray, key: int | jax.Array) -> np.ndarray:
        run, member = self.run, self.member
        if hasattr(run.learner, "act_remembering"):
            raise UserError(f"{run.method} acts by what it remembers: leave out key")
        with settings_of_jax():
            key, [learner] = _key(key), learners_of(run.learner, [member])
            actor = learner.actor(self._states[member.name])
            drawn = np.asarray(_draw(learner, actor, run.preprocessing.observations(batch), key))
        return np.asarray(run.preprocessing.acted(drawn))

    @functools.cached_property
    def _act(self) -> Act:
        return self.run.policy([self.member])

    @functools.cached_property
    def _decide(self) -> Act:
        return self.run.deciding_policy([self.member])

    @property
    def member(self) -> Member:
        """The only member; UserError if there are several."""
        if (number := len(self.members)) > 1:
            choose = f"choose a member with policy.select(...): {self._listed()}"
            raise UserError(f"the run has {number} members: {choose}")
        return self.members[0]

    def _listed(self) -> str:
        listed = "; ".join(map(str, self.members[:10]))
        return listed if len(self.members) <= 10 else f"{listed}; ..."


def _numbers(
    name: str, value: ArrayLike, *shapes: tuple[int, ...], batch: tuple[int, ...] | None = None
) -> np.ndarray:
    """Returns what enters a policy in float32, [..., *shape] with one of the shapes; else UserError.

    `batch` are the leading axes; None: any.
    """
    leads = ("...",) if batch is None else batch
    wanted = " or ".join(f"[{', '.join(map(str, (*leads, *shape)))}]" for shape in shapes)
    try:
        array = np.asarray(value)
    except Exception:  # its class may convert it, and fail in any way
        array = np.asarray(None)
    if array.dtype.kind not in "biuf" or np.ma.is_masked(value):
        raise UserError(f"{name}: must be numbers of shape {wanted}, not this {type(value).__name__}")
    with np.errstate(all="ignore"):
        array = array.astype(np.float32)
    for shape in shapes:
        leading = array.ndim - len(shape)
        if leading >= 0 and array.shape[leading:] == shape and batch in (None, array.shape[:leading]):
            if not np.isfinite(array).all():
                raise UserError(f"{name}: every number must be finite in float32, and some are not")
            return array
    raise UserError(f"{name}: must be of shape {wanted}, not {[*array.shape]}")


def _finite(what: str, numbers: np.ndarray) -> np.ndarray:
    """Returns what networks gave; UserError if some is not finite: beyond all data they may overflow."""
    if np.isfinite(numbers).all():
        return numbers
    raise UserError(f"{what} is not finite there: the observations or actions are far beyond the data's")


def _key(key: Any) -> jax.Array:
    """Returns a user's seed or key of JAX as a key of a run's kind; UserError if it is neither."""
    try:
        if isinstance(key, int | np.integer) and not isinstance(key, bool) and -(2**31) <= key < 2**32:
            return jax.random.key(int(key))  # of a larger seed it would forget the upper half
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.wrap_key_data(key)
        if key.shape == ():
            return cast(jax.Array, key)
    except Exception:  # it may be anything
        pass
    raise UserError(f"key: must be a whole number of 32 bits or a key of JAX, not a {type(key).__name__}")


@jax.jit
def _estimate(state: State, *inputs: jax.Array) -> jax.Array:
    """V(s) by the state of a value fit, or the least Q(s, a) by the state of critics."""
    estimate: jax.Array = state(*inputs) if len(inputs) == 1 else state.min_q(*inputs)
    return estimate


@jax.jit
def _draw(learner: Learner, actor: Params, observations: jax.Array, key: jax.Array) -> jax.Array:
    return learner.act(actor, observations, key, deterministic=False)
