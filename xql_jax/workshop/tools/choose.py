"""Policy selection without an environment: ranks a run's members by what their data say of them.

Every member's policy is evaluated by fitted-Q evaluation (FQE), all of them as one population. Statistics of
the members' own V and Q are reported as well, and the scores of the run's evaluations if there are any.
"""

import dataclasses
import logging
import math
from collections.abc import Sequence

import jax
import numpy as np

from xql_jax.data.dataset import (
    Dataset,
    best_trajectories,
    check_order,
    check_spaces,
    drawn_rows,
    spread_rows,
    with_scaled_actions,
)
from xql_jax.data.loading import load_dataset
from xql_jax.data.names import unused_arrays
from xql_jax.data.views import view_for
from xql_jax.errors import UserError
from xql_jax.files.outputs import check_output, write_output
from xql_jax.learners.fitted_q_evaluation import FittedQEvaluation, value_statistics
from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.numerics.statistics import grouped
from xql_jax.runs.kinds import other_bounds
from xql_jax.runs.load import Run
from xql_jax.runs.run_data import bounds_of_data
from xql_jax.settings import (
    ABOVE_ZERO,
    ANY,
    COUNT,
    COUNT_OR_NONE,
    EITHER,
    POSITIVE,
    SEVERAL,
    TEXT,
    UNIT_INTERVAL,
    WIDTHS,
    Checked,
    setting,
    values_of,
    with_values,
    within,
)
from xql_jax.suites.tasks import module_to_run
from xql_jax.training.members import Member, learners_of
from xql_jax.types import Json
from xql_jax.workshop.reports.score_table import csv_table
from xql_jax.workshop.tools.opening import open_run, own_method
from xql_jax.workshop.tools.policy_values import ALL, Evaluated, evaluated, moving, steps_needed, told_apart

LOG = logging.getLogger(__name__)
USUAL_DISCOUNT = 0.99  # for methods without a discount
_statistics_of = jax.jit(value_statistics)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceSettings(Checked):
    checkpoint: str = setting("", ANY, "a run's folder or one of its checkpoints", positional=True)
    method: str | None = own_method()
    env_name: str | None = setting(
        None, TEXT, "The run's task, whose module is run only if it is named here."
    )
    allow_other_bounds: bool = other_bounds()
    dataset: Sequence[str] = setting(
        (), SEVERAL, "Data to use instead of the run's own, such as held-out data; as for xql-train-offline."
    )
    unused_arrays: Sequence[str] = unused_arrays()
    max_steps: int | None = setting(
        None,
        COUNT,
        "Updates of each evaluation. Default: 5 / (tau * (1 - discount)), which bring a value within 1% of "
        "its limit; at least 5,000, at most 100,000.",
        value_type=int,
    )
    batch_size: int = setting(128, within(1, 10_000_000), "Transitions per update.")
    hidden_dims: tuple[int, ...] = setting(
        (128, 128), WIDTHS, "Widths of the hidden layers of the Q that evaluates."
    )
    critic_layer_norm: bool = setting(True, EITHER, "Use layer norm in each hidden layer.")
    critic_lr: float = setting(
        1e-3, POSITIVE, "Learning rate of this Q. In the second half of the updates it falls to a tenth."
    )
    tau: float = setting(0.1, ABOVE_ZERO, "Polyak rate of the target network, per update.")
    discount: float | None = setting(
        None, UNIT_INTERVAL, "Discount of the values. Default: the run's own.", value_type=float
    )
    seed: int = setting(0, COUNT_OR_NONE, "Random seed, the same for all members.")
    output: str | None = setting(None, TEXT, "Also write the members to FILE.csv.")
    tqdm: bool = setting(True, EITHER, "Show a progress bar, if stderr is a terminal.")


# Titles of the numbers that rank policies without an environment. The largest is best, of errors the least.
STATISTICS = {
    "fqe_value": "FQE value",
    "fqe_uncertainty": "±",
    "initial_v": "own V",
    "initial_q": "own Q",
    "advantage": "Q - V",
    "td_error": "TD error",
    "fqe_error": "FQE error",
}


@settings_of_jax()
def choose(settings: ChoiceSettings) -> Json:
    """Evaluates a run's members on its data; UserError if a setting or the data are invalid, before that.

    Returns:
        The `members`, best by FQE first, and their means by `settings` of a sweep, see `by_setting`. Entries
        have their `STATISTICS` and `score`, None if unknown. `told_apart` says whether FQE's value is below
        the first entry's by more than the error of that difference.
    """
    output = check_output("output", settings.output, (".csv",)) if settings.output else None
    allowed = settings.allow_other_bounds
    saved = open_run(
        settings.checkpoint, settings.method, env_name=settings.env_name, allow_other_bounds=allowed
    )
    if saved.is_online:
        raise UserError(f"{saved.path}: {saved.method} learned online: no dataset to judge by")
    if hasattr(saved.learner, "act_remembering"):
        raise UserError(f"{saved.path}: {saved.method} acts by what it remembers, which no Q judges")
    if saved.horizon.is_chunk:
        raise UserError(
            f"{saved.path}: it decides on chunks of actions, fitted-Q evaluation on single actions"
        )
    evaluation = _evaluation(settings, saved)
    dataset = _dataset(settings, saved)
    starts = np.flatnonzero(dataset.begins)
    steps = settings.max_steps or steps_needed(settings.tau, float(evaluation.discount))
    now = [row for row in saved.rows(saved.files.evaluations) if row.step == saved.step]
    scores = {Member(row.seed, dict(row.setting)).name: row.results["score"] for row in now}
    LOG.info(f"{len(saved.members)} member(s) of {saved.what}")
    LOG.info(
        f"{dataset.size:,} transitions and {len(starts):,} initial states from {dataset.source}; "
        f"{steps:,} updates, discount {float(evaluation.discount):g}"
    )
    policies = [
        (learner, learner.actor(saved.states[member.name]))
        for learner, member in zip(learners_of(saved.learner, saved.members), saved.members, strict=True)
    ]
    judged = evaluated(
        evaluation, policies, dataset, steps, settings.batch_size, settings.seed, settings.tqdm
    )
    _warn_of_values(saved, judged)
    statistics = _statistics(saved, judged, dataset, starts)
    entries: list[Json] = []
    for index, member in enumerate(saved.members):
        entry = {"index": index, "member": str(member), "seed": member.seed, **member.hyperparameters}
        has_diverged = bool(saved.progress.members[member.name]["diverged"])
        entry |= {**statistics[index], "score": scores.get(member.name), "diverged": has_diverged}
        entries.append(entry)
    names = [*saved.members[0].hyperparameters]
    unit = judged.scale / saved.preprocessing.reward_scale

    def indices_of(setting: Json) -> list[int]:
        return [entry["index"] for entry in entries if all(entry[name] == setting[name] for name in names)]

    members = told_apart(best_first(entries), judged, lambda entry: [entry["index"]], unit)
    of_sweep = told_apart(by_setting(entries, names), judged, indices_of, unit)
    if output:
        write_output("output", output, csv_table([members[0], *(entry.values() for entry in members)]))
    return {"members": members, "settings": of_sweep}


def _evaluation(settings: ChoiceSettings, saved: Run) -> FittedQEvaluation:
    discounts = {
        float(values_of(learner).get("discount", USUAL_DISCOUNT))
        for learner in learners_of(saved.learner, saved.members)
    }
    if settings.discount is None and len(discounts) > 1:
        listed = ", ".join(f"{discount:g}" for discount in sorted(discounts))
        raise UserError(f"{saved.path}: its discounts differ, {listed}: give a common discount by --discount")
    discount = discounts.pop() if settings.discount is None else settings.discount
    values = {
        "discount": discount,
        "critic_hidden_dims": settings.hidden_dims,
        "critic_layer_norm": settings.critic_layer_norm,
        "critic_lr": settings.critic_lr,
        "tau": settings.tau,
    }
    needed = 1.0 / (settings.tau * (1.0 - discount)) if discount < 1.0 else math.inf
    if settings.max_steps is not None and settings.max_steps < needed:
        LOG.warning(
            f"--max_steps={settings.max_steps}: fewer than 1 / (tau * (1 - discount)) = {needed:,.0f}: "
            "rewards that are far away will not be known yet"
        )
    range_ = saved.preprocessing.action_range  # of data alone, within which the policy acts
    within = np.array(range_, np.float32) if range_.low else None
    return with_values(FittedQEvaluation(saved.learner, within=within), values)


def _dataset(settings: ChoiceSettings, saved: Run) -> Dataset:
    """Returns the run's or the user's data, preprocessed; an episode begins in at least one row."""
    runs_code = saved.env_name and not settings.env_name and module_to_run(saved.env_name)
    task = None if runs_code or not saved.env_name else saved.task  # data that need its limit say so
    sources = settings.dataset or saved.sources
    unused = settings.unused_arrays or saved.unused_arrays
    read = load_dataset(task, sources, unused)
    check_spaces(read, *saved.sizes, f"the data of {saved.path}")
    check_order(read, "the value of initial states is asked for")
    dataset = with_scaled_actions(read, bounds_of_data(saved, read, sources))
    kept = saved.preprocessing.dataset(best_trajectories(dataset, saved.record.get("top_returns", 1.0)))
    learned = view_for(saved.learner, kept, saved.horizon)
    number = saved.record.get("init_dataset_size") or kept.size
    if number < kept.size and not settings.dataset:
        rows = drawn_rows(kept.size, number, saved.record.get("data_seed", saved.seeds[0]))
        judged, learned = kept.part(rows), learned.part(rows)
    else:  # where top_returns kept the best trajectories, it is judged on the others, too
        judged = saved.preprocessing.dataset(dataset)
    if learned.fingerprint() != saved.record.get("dataset_fingerprint"):
        LOG.warning(f"{dataset.source}: not the data that the run learned from")
    if not judged.begins.any():
        raise UserError(f"{saved.path}: no episode begins in its part of the data: give --dataset")
    return judged


def _warn_of_values(saved: Run, judged: Evaluated) -> None:
    """Warns of values that are not known, or not yet."""
    for member, critic in zip(saved.members, judged.critics, strict=True):
        if critic is None:
            LOG.warning(f"{member}: its evaluation diverged: no value")
    if (which := np.flatnonzero(moving(judged.values))).size:
        before, now = judged.values[:, which[0], ALL] * judged.scale / saved.preprocessing.reward_scale
        LOG.warning(
            f"{which.size} of {len(saved.members)} values still move, for {saved.members[which[0]]} from "
            f"{before:.4g} to {now:.4g} in the last fifth of the updates: give more --max_steps"
        )


def _statistics(
    saved: Run, evaluated: Evaluated, dataset: Dataset, starts: np.ndarray
) -> list[dict[str, float | None]]:
    """Returns each member's `STATISTICS`, in units of the data's rewards; None if unknown or not finite."""
    initial = dataset.take(starts[spread_rows(len(starts))]).observations
    batch = dataset.take(spread_rows(dataset.size))
    scaled = batch._replace(rewards=batch.rewards / np.float32(evaluated.scale))
    rows = []
    for index, learner in enumerate(learners_of(saved.learner, saved.members)):
        numbers = _statistics_of(learner, saved.states[saved.members[index].name], initial, batch)
        if (critic := evaluated.critics[index]) is not None:
            evaluation, state = critic
            # Its target averages about the last 1 / tau updates, so it is steadier than the last alone.
            judge = state.replace(critic=state.critic.at_target())
            of_judge = _statistics_of(evaluation, judge, initial, scaled)
            for name, theirs in {"fqe_value": "initial_q", "fqe_error": "td_error"}.items():
                numbers[name] = of_judge[theirs] * evaluated.scale
        unit = saved.preprocessing.reward_scale
        finite = {name: float(number) / unit for name, number in numbers.items() if np.isfinite(number)}
        rows.append({name: finite.get(name) for name in STATISTICS})
    return rows


def best_first(entries: Sequence[Json]) -> list[Json]:
    """Returns the entries with the highest value in fitted-Q evaluation first, unknown values last."""
    return sorted(entries, key=lambda entry: math.inf if entry["fqe_value"] is None else -entry["fqe_value"])


def by_setting(members: Sequence[Json], names: Sequence[str]) -> list[Json]:
    """Returns an entry for each setting of the hyperparameters `names`: means over its seeds, best first.

    Seeds for which a number is unknown are left out of its mean. `diverged` is the number of seeds that did.
    """
    entries: list[Json] = []
    for values, group in grouped(members, lambda member: tuple(member[name] for name in names)).items():
        setting = dict(zip(names, values, strict=True))
        label = ", ".join(f"{name}={value:g}" for name, value in setting.items())
        means: Json = {}
        for name in (*STATISTICS, "score"):
            numbers = (member[name] for member in group)
            known = [number for number in numbers if number is not None and math.isfinite(number)]
            means[name] = float(np.mean(known)) if known else None
        diverged = sum(member["diverged"] for member in group)
        entries.append({"setting": label, "seeds": len(group), **setting, **means, "diverged": diverged})
    return best_first(entries) if names else []
