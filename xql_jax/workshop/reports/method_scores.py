"""The scores of each method on each dataset, from the numbers of runs' members."""

from collections.abc import Iterable, Sequence

from xql_jax.errors import UserError
from xql_jax.rollout.run_summary import grouped, varying_names
from xql_jax.runs.kinds import FINE_TUNING, OFFLINE_TRAINING
from xql_jax.runs.load import Run, as_text
from xql_jax.workshop.reports.printed_tables import FINETUNING_TABLE, PAPER_TABLES, read_paper_table
from xql_jax.workshop.reports.read_runs import Curve
from xql_jax.workshop.reports.score_table import MethodScore

FINGERPRINT = "dataset_fingerprint"
# What scores of different methods must share to be compared: else it is in their names.
COMMON = ("references", "dataset")
# Settings that distinguish no methods.
NO_METHOD = ("sweep", "log_interval", "eval_interval", "eval_episodes", "eval_at_start")


def method_scores(members: Iterable[Curve], but: str = "") -> list[MethodScore]:
    """Groups members that differ only in the seed, ordered by dataset and method.

    A score's name is its method's, with the settings that differ among its members on this dataset, and the
    data and references that differ between methods. The setting `but` is in no name, although
    members with different values stay apart. UserError if two runs have the same seed of a method.
    """
    scores: list[MethodScore] = []
    members = list(members)
    common = {
        dataset: {name for name in varying_names([one.settings for one in of_dataset]) if name in COMMON}
        for dataset, of_dataset in grouped(members, lambda member: member.run.dataset).items()
    }
    kinds = grouped(members, lambda member: (member.run.method, member.run.kind))
    for (method, kind), of_kind in kinds.items():
        plain = f"{method} fine-tuned" if kind == FINE_TUNING else method
        for dataset, of_dataset in grouped(of_kind, lambda member: member.run.dataset).items():
            given = {name for member in of_dataset for name in member.settings}
            names = sorted({*_names(of_dataset, but), *(common[dataset] & given)})
            for group in grouped(of_dataset, lambda member: as_text(_of_method(member))).values():
                name = " ".join(filter(None, (plain, setting_text(group[0], names))))
                scores.append(_score(name, dataset, group))
    return sorted(scores, key=lambda score: (score.dataset, score.method))


def setting_text(member: Curve, names: Iterable[str]) -> str:
    """Returns the member's values of these settings, such as `beta=0.5 tau=0.1`."""
    return " ".join(f"{name.removeprefix('config.')}={member.settings.get(name) or '-'}" for name in names)


def _names(members: Iterable[Curve], but: str) -> list[str]:
    """Returns the settings that differ among the members.

    The data's digest is among them only if others do not tell: settings that differ may have another digest
    only because methods have the same data in several forms.
    """
    settings = list(map(_of_method, members))
    names = [name for name in varying_names(settings) if name != FINGERPRINT]
    alike = grouped(settings, lambda one: tuple(one.get(name) for name in names)).values()
    if any(len({one.get(FINGERPRINT) for one in same}) > 1 for same in alike):
        names.append(FINGERPRINT)
    return sorted({*names} - {but, f"config.{but}"})


def _of_method(member: Curve) -> dict[str, str]:
    return {name: value for name, value in member.settings.items() if name not in NO_METHOD}


def _score(method: str, dataset: str, members: Sequence[Curve]) -> MethodScore:
    """Returns the score of members that differ only in their seeds, with the paper's beside it."""
    for seed, of_seed in grouped(members, lambda member: member.seed).items():
        if len(of_seed) > 1:
            names = " and ".join(member.run.name for member in of_seed)
            raise UserError(f"{method} on {dataset} has seed {seed} twice: in {names}: move one elsewhere")
    members = sorted(members, key=lambda member: member.seed)
    run, note = members[0].run, ""
    finished = [member for member in members if member.is_finished]
    if not finished:
        how = "stopped early" if run.status == "finished" else run.status
        step = min(member.steps[-1] for member in members)
        note = f"{how} after {run.in_words(step)} of {run.in_words(run.max_steps)}"
    paper_before, paper = _of_paper(run)
    return MethodScore(dataset, method, finished or members, note, paper, paper_before)


def _of_paper(run: Run) -> tuple[float | None, float | None]:
    """Returns the paper's scores before and after fine-tuning; None if it has none on these data."""
    for name in PAPER_TABLES:
        table = read_paper_table(name)
        place = (run.dataset, "xql_t" if (run.method, name) == ("xql", FINETUNING_TABLE) else run.method)
        kind = FINE_TUNING if name == FINETUNING_TABLE else OFFLINE_TRAINING
        if run.kind == kind and place in table.scores and not run.content.get("dataset"):
            return table.before.get(place), table.scores[place]
    return None, None
