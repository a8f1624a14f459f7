"""How well xql-choose orders the members of finished runs: Spearman's rank correlation with their scores.

    python benchmarks/choices.py results/hopper-medium-replay-v2/xql/RUN results/mine/xql/RUN SCORES.json

A SCORES.json after a run is what `xql-evaluate RUN --env_name=TASK --output=SCORES.json` wrote, for a run
that was not evaluated while it learned. A row a run: the correlation over members, and over settings, of the
value by fitted-Q evaluation; the score of the best by that value beside the best and the mean score; and
whether the choice said that it can tell. A run needs several members.
"""

import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import stats

from xql_jax.runs.load import load_run
from xql_jax.workshop.tools.choose import ChoiceSettings, choose

COLUMNS = "run", "ρ, members", "ρ, settings", "chosen", "best", "mean", "told from the first"


def correlation(entries: list[dict]) -> float:
    pairs = [
        (one["fqe_value"], one["score"]) for one in entries if None not in (one["fqe_value"], one["score"])
    ]
    return float(stats.spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 1 else np.nan


def scored(report: dict, names: Iterable[str], path: Path) -> None:
    """Gives the members, and as means the settings of the hyperparameters `names`, xql-evaluate's scores."""
    scores = {one["member"]: one["score_mean"] for one in json.loads(path.read_text("utf-8"))["members"]}
    for member in report["members"]:
        member["score"] = scores[member["member"]]
    for setting in report["settings"]:
        own = [one for one in report["members"] if all(one[name] == setting[name] for name in names)]
        setting["score"] = float(np.mean([one["score"] for one in own]))


def row(path: str, scores: str | None) -> str:
    run, report = load_run(path), choose(ChoiceSettings(checkpoint=path))
    if scores:
        scored(report, run.members[0].hyperparameters, Path(scores))
    members, ranked = report["members"], report["settings"] or report["members"]
    known = [one["score"] for one in ranked if one["score"] is not None]
    alike = sum(not one["told_apart"] for one in ranked[1:])
    cells = [
        run.env_name or run.path.parts[-3],
        f"{correlation(members):.2f}",
        f"{correlation(ranked):.2f}",
        f"{ranked[0]['score']:.1f}",
        f"{max(known):.1f}",
        f"{np.mean(known):.1f}",
        f"{len(ranked) - 1 - alike} of {len(ranked) - 1}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for path, following in itertools.pairwise([*sys.argv[1:], ""]):
        if not path.endswith(".json"):
            print(row(path, following if following.endswith(".json") else None), flush=True)
