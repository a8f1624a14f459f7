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

from xql_jax.data.dataset import Dataset, drawn_rows, known_successors, spread_rows
from xql_jax.data.loading import load_dataset
from xql_jax.data.views import view_for
from xql_jax.errors import UserError
from xql_jax.files.outputs import check_output, write_output
from xql_jax.learners.fitted_q_evaluation import FittedQEvaluation, value_statistics
from xql_jax.numerics.jax_settings import settings_of_jax
from xql_jax.rollout.run_summary import grouped
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
from xql_jax.training.members import Member, learners_of, stacked
from xql_jax.training.population import Population, offline_population
from xql_jax.training.progress import progress_bar
from xql_jax.types import Json
from xql_jax.workshop.reports.score_table import csv_table
from xql_jax.workshop.tools.opening import open_run, own_method

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
    max_steps: int = setting(
        5_000,
        COUNT,
        "Updates of each evaluation. Values need about 1 / (tau * (1 - discount)) of them to converge.",
    )
    batch_size: int = setting(256, within(1, 10_000_000), "Transitions per update.")
    hidden_dims: tuple[int, ...] = setting(
        (128, 128), WIDTHS, "Widths of the hidden layers of the Q that evaluates."
    )
    critic_layer_norm: bool = setting(True, EITHER, "Use layer norm in each hidden layer.")
    critic_lr: float = setting(1e-3, POSITIVE, "Learning rate of this Q.")
    tau: float = setting(0.02, ABOVE_ZERO, "Polyak rate of the target network, per update.")
    discount: float | None = setting(
        None, UNIT_INTERVAL, "Discount of the values. Default: the run's own.", kind=float
    )
    seed: int = setting(0, COUNT_OR_NONE, "Random seed, the same for all members.")
    output: str | None = setting(None, TEXT, "Also write the members to FILE.csv.")
    tqdm: bool = setting(True, EITHER, "Show a progress bar, if stderr is a terminal.")


# Titles of the numbers that rank policies without an environment. The largest is best, of errors the least.
STATISTICS = {
    "fqe_value": "FQE value",
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
        have their `STATISTICS` and `score`, None if unknown.
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
        raise UserError(f"{saved.path}: it decides on chunks of actions, fitted-Q evaluation on one")
    evaluation = _evaluation(settings, saved)
    dataset = _dataset(settings, saved)
    starts = np.flatnonzero(dataset.begins)
    now = [row for row in saved.rows(saved.files.evaluations) if row.step == saved.step]
    scores = {Member(row.seed, dict(row.setting)).name: row.results["score"] for row in now}
    LOG.info(f"{len(saved.members)} member(s) of {saved.what}")
    LOG.info(
        f"{dataset.size:,} transitions and {len(starts):,} initial states from {dataset.source}; "
        f"{settings.max_steps:,} updates, discount {float(evaluation.discount):g}"
    )
    population = _trained(settings, saved, evaluation, dataset)
    statistics = _statistics(saved, population, dataset, starts)
    entries: list[Json] = []
    for index, member in enumerate(saved.members):
        entry = {"index": index, "member": str(member), "seed": member.seed, **member.hyperparameters}
        has_diverged = bool(saved.progress.members[member.name]["diverged"])
        entry |= {**statistics[index], "score": scores.get(member.name), "diverged": has_diverged}
        entries.append(entry)
    members = best_first(entries)
    if output:
        write_output("output", output, csv_table([members[0], *(entry.values() for entry in members)]))
    return {"members": members, "settings": by_setting(members, [*saved.members[0].hyperparameters])}


def _evaluation(settings: ChoiceSettings, saved: Run) -> FittedQEvaluation:
    discounts = {
        float(values_of(learner).get("discount", USUAL_DISCOUNT))
        for learner in learners_of(saved.learner, saved.members)
    }
    if settings.discount is None and len(discounts) > 1:
        listed = ", ".join(f"{discount:g}" for discount in sorted(discounts))
        raise UserError(f"{saved.path}: its discounts differ, {listed}: give one for all by --discount")
    discount = discounts.pop() if settings.discount is None else settings.discount
    values = {
        "discount": discount,
        "critic_hidden_dims": settings.hidden_dims,
        "critic_layer_norm": settings.critic_layer_norm,
        "critic_lr": settings.critic_lr,
        "tau": settings.tau,
    }
    needed = 1.0 / (settings.tau * (1.0 - discount)) if discount < 1.0 else math.inf
    if settings.max_steps < needed:
        LOG.warning(
            f"--max_steps={settings.max_steps}: fewer than 1 / (tau * (1 - discount)) = {needed:,.0f}: "
            "rewards that are far away will not be known yet"
        )
    return with_values(FittedQEvaluation(saved.learner), values)


def _dataset(settings: ChoiceSettings, saved: Run) -> Dataset:
    """Returns the run's own data, or those given, preprocessed; an episode begins in one row at least."""
    runs_code = saved.env_name and not settings.env_name and module_to_run(saved.env_name)
    task = None if runs_code or not saved.env_name else saved.task  # data that need its limit say so
    sources = settings.dataset or saved.sources
    dataset = load_dataset(task, sources, bounds=bounds_of_data(saved, task, sources))
    if (sizes := (dataset.observation_dim, dataset.action_dim)) != saved.sizes:
        raise UserError(f"{dataset.source}: observations and actions have {sizes} entries, not {saved.sizes}")
    preprocessing = saved.preprocessing_of(dataset)
    kept = preprocessing.dataset(dataset)
    learned = view_for(saved.learner, kept, saved.horizon)
    number = saved.content.get("init_dataset_size") or kept.size
    if number < kept.size and not settings.dataset:
        rows = drawn_rows(kept.size, number, saved.content.get("data_seed", saved.seeds[0]))
        judged, learned = kept.part(rows), learned.part(rows)
    else:  # where top_returns kept the best trajectories, it is judged on the others, too
        judged = dataclasses.replace(preprocessing, most_rows=math.inf).dataset(dataset)
    if learned.fingerprint() != saved.content.get("dataset_fingerprint"):
        LOG.warning(f"{dataset.source}: not the data that the run learned from")
    known_successors(dataset, "the value of initial states is asked for")
    if not judged.begins.any():
        raise UserError(f"{saved.path}: no episode begins in its part of the data: give --dataset")
    return judged


def _trained(
    settings: ChoiceSettings, saved: Run, evaluation: FittedQEvaluation, dataset: Dataset
) -> Population:
    """Returns the trained evaluations of the members' policies: of the same networks and minibatches."""
    members = [Member(settings.seed, {}) for _ in saved.members]
    population = offline_population(evaluation, members, dataset.batch, settings.batch_size)
    judges, states = [], []
    learners = learners_of(saved.learner, saved.members)
    for index, (learner, member) in enumerate(zip(learners, saved.members, strict=True)):
        state = population.member(index)[1]
        judge = dataclasses.replace(evaluation, evaluated=learner)  # which may act by what is swept
        judges.append(jax.tree.map(jax.numpy.asarray, judge))
        states.append(state.replace(policy=learner.actor(saved.states[member.name])))
    population.set_in_members(learner=stacked(judges), state=stacked(states))
    with progress_bar(settings.max_steps, "update", settings.tqdm, name="evaluating") as bar:
        stops = np.unique(np.linspace(1, settings.max_steps, 200).astype(int)).tolist()
        for before, stop in zip([0, *stops], stops, strict=False):
            population.advance(stop)
            bar.update(stop - before)
    for index, divergence in population.diverged.items():
        LOG.warning(f"{saved.members[index]}: its evaluation diverged at update {divergence.step}: no value")
    return population


def _statistics(
    saved: Run, population: Population, dataset: Dataset, starts: np.ndarray
) -> list[dict[str, float | None]]:
    """Returns each member's `STATISTICS`, in units of the data's rewards; None if unknown or not finite."""
    initial = dataset.take(starts[spread_rows(len(starts))]).observations
    batch = dataset.take(spread_rows(dataset.size))
    found = []
    for index, learner in enumerate(learners_of(saved.learner, saved.members)):
        numbers = _statistics_of(learner, saved.states[saved.members[index].name], initial, batch)
        if index not in population.diverged:
            evaluation, state = population.member(index)
            # Its target averages about the last 1 / tau updates, so it is steadier than the last one alone.
            judge = state.replace(critic=state.critic.at_target())
            of_judge = _statistics_of(evaluation, judge, initial, batch)
            numbers |= {"fqe_value": of_judge["initial_q"], "fqe_error": of_judge["td_error"]}
        unit = saved.preprocessing.reward_scale
        finite = {name: float(number) / unit for name, number in numbers.items() if np.isfinite(number)}
        found.append({name: finite.get(name) for name in STATISTICS})
    return found


def best_first(entries: Sequence[Json]) -> list[Json]:
    """Returns the entries with the highest value in fitted-Q evaluation first, unknown values last."""
    return sorted(entries, key=lambda one: math.inf if one["fqe_value"] is None else -one["fqe_value"])


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
