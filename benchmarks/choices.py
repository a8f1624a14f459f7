"""How well xql-choose orders the members of finished runs: Spearman's rank correlation with their scores.

    python benchmarks/choices.py results/hopper-medium-replay-v2/xql/RUN results/pen-human-v1/iql/RUN ...

A row a run, the correlation over members, and over settings, of the value by
fitted-Q evaluation; the score of the best by that value beside the best and the mean score; and whether the
choice said that it can tell. Runs need scores, and several members.
"""

import sys

import numpy as np
from scipy import stats

from xql_jax.runs.load import load_run
from xql_jax.workshop.tools.choose import ChoiceSettings, choose


def correlation(entries: list[dict]) -> float:
    pairs = [
        (one["fqe_value"], one["score"]) for one in entries if None not in (one["fqe_value"], one["score"])
    ]
    return float(stats.spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 1 else np.nan


def row(path: str) -> str:
    report = choose(ChoiceSettings(checkpoint=path))
    members, ranked = report["members"], report["settings"] or report["members"]
    scores = [one["score"] for one in ranked if one["score"] is not None]
    alike = sum(not one["told_apart"] for one in ranked[1:])
    cells = [
        load_run(path).env_name,
        f"{correlation(members):.2f}",
        f"{correlation(ranked):.2f}",
        f"{ranked[0]['score']:.1f}",
        f"{max(scores):.1f}",
        f"{np.mean(scores):.1f}",
        f"{len(ranked) - 1 - alike} of {len(ranked) - 1}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print("| task | ρ, members | ρ, settings | chosen | best | mean | told from the first |")
    print("|---|---|---|---|---|---|---|")
    for path in sys.argv[1:]:
        print(row(path), flush=True)
