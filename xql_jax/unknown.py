"""The error for an unknown setting or hyperparameter, which knows what other programs call ours."""

from collections.abc import Collection

from xql_jax.errors import UserError, nearest
from xql_jax.learners import fields
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner

# Our names for what other programs call otherwise: those of the method or the command are meant.
_THEIRS = {
    "actor_lr critic_lr value_lr": "lr learning_rate",
    "awr_temperature beta": "temperature temp inverse_temperature",
    "awr_temperature": "beta",  # so IQL's paper calls it
    "initial_entropy_coef cql_alpha brac_alpha q_weight beta": "alpha",
    "batch_size": "batch",
    "discount": "gamma",
    "expectile": "quantile iql_tau",
    "hidden_dims": "hidden hidden_dim hidden_size hidden_sizes width",
    "max_grad_norm": "grad_clip clip_grad grad_norm",
    "tau": "polyak target_update_rate soft_target_update_rate",
    "updates_per_step": "utd utd_ratio",
    "max_steps": "steps num_steps total_steps max_timesteps total_timesteps epochs updates num_updates",
    "eval_episodes episodes": "n_episodes n_eval_episodes num_eval_episodes",
    "eval_interval": "eval_freq eval_every eval_period",
    "log_interval": "log_freq log_every",
    "checkpoint_interval": "save_freq save_interval checkpoint_freq",
    "num_seeds": "n_seeds seeds",
    "progress": "verbose tqdm quiet",
    "method methods": "algo algorithm agent",
    "env_name datasets": "env env_id env_name env_names task tasks",
    "dataset datasets": "data file data_path dataset_path",
    "save_dir output": "out output_dir logdir log_dir results save_dir",
}
SYNONYMS = {theirs: ours for ours, names in _THEIRS.items() for theirs in names.split()}


def ours_of(name: str, known: Collection[str]) -> list[str]:
    """Returns our names, of those known, for what another program calls `name`; also `name` if it is ours."""
    return [one for one in SYNONYMS.get(name, name).split() if one in known]


def advice(name: str, known: Collection[str]) -> str:
    """Returns which of the known names to give instead, or the nearest."""
    ours = ours_of(name, known)
    return f"give {' or '.join(ours)}" if ours else f"nearest known: {nearest(name, known)}"


def unknown_setting(name: str, known: Collection[str], algorithm: str = "") -> UserError:
    """Returns the error for a name that is none of the known settings and hyperparameters.

    Its line says what is meant, if that is known: another program's name for one of ours, or a hyperparameter
    of other methods. Else it names the nearest.

    Args:
        algorithm: what is trained; empty: nothing.
    """
    ours, hint = ours_of(name, known), f"; {advice(name, known)}"
    methods = (*OFFLINE, *ONLINE) if algorithm or "methods" in known else ()
    named = {method: fields.hyperparameters(make_learner(method)) for method in methods}
    possible = [name] if ours else [name, *SYNONYMS.get(name, "").split()]
    meant = next((one for one in possible if any(one in of_method for of_method in named.values())), "")
    having = [method for method, of_method in named.items() if meant in of_method]
    if having and not algorithm:
        return UserError(
            f"{name}: a hyperparameter: give --sweep={meant}=VALUES or --methods=METHOD:{meant}=VALUE"
        )
    if name in known:
        return UserError(f"{name}: no hyperparameter of {algorithm}{hint}")
    if not having:
        return UserError(f"{name}: unknown setting{hint}")
    other_name = f", as {meant}" if meant != name else ""
    what = f"no hyperparameter of {algorithm}, but of {', '.join(having)}{other_name}"
    return UserError(f"{name}: {what}{hint if ours else ''}")
