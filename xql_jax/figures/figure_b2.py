"""Figure B2: how far estimates of L^beta from N samples exceed it, and the bounds of Lemma B.2."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from xql_jax.figures.paper_figure import PaperFigure, Table, long_table, where
from xql_jax.reports.palette import BLUE, GREEN, LINES, SOFT, VERMILION
from xql_jax.reports.style import legend_below, styled
from xql_jax.theory.bounds import (
    linear_log_partition_upper_bound,
    log_partition_upper_bound,
    partition_upper_bound,
)
from xql_jax.theory.log_partition import log_partition

X_MAX = 1.0  # X is uniform in [-X_MAX, X_MAX], reward units
BETAS = (0.2, 1.0)
DELTA = 0.05
SAMPLES = np.unique(np.geomspace(5, 2_000, 14).astype(int))
DELTAS = np.geomspace(0.001, 0.5, 25)
NUM_SAMPLES = 50  # N for which failures of the bound are counted
REPLICATIONS = 20_000


def exact_partition(beta: float) -> float:
    """Returns E[exp(X / beta)] for the uniform X."""
    return float(np.sinh(X_MAX / beta) * beta / X_MAX)


def compute(seed: int) -> dict[str, Table]:
    generator = np.random.default_rng(seed)
    estimates: list[tuple] = []
    failures: list[tuple] = []
    for beta in BETAS:
        partition = exact_partition(beta)
        exact = beta * np.log(partition)
        for count in SAMPLES:
            x = generator.uniform(-X_MAX, X_MAX, (REPLICATIONS // 4, count))
            quantile = np.quantile(log_partition(x, beta), 1.0 - DELTA)
            bound_eq_30 = float(log_partition_upper_bound(exact, X_MAX, beta, count, DELTA))
            bound_eq_32 = float(linear_log_partition_upper_bound(exact, X_MAX, beta, count, DELTA))
            estimates.append((beta, count, exact, quantile, bound_eq_30, bound_eq_32))
        x = generator.uniform(-X_MAX, X_MAX, (REPLICATIONS, NUM_SAMPLES))
        estimate = np.exp(log_partition(x, beta) / beta)
        for delta in DELTAS:
            bound = partition_upper_bound(partition, X_MAX, beta, NUM_SAMPLES, delta)
            failures.append((beta, delta, float((estimate > bound).mean())))
    columns = ("beta", "num_samples", "exact", "simulated_quantile", "bound_eq_30", "bound_eq_32")
    return {
        "estimates": long_table(*columns, rows=estimates),
        "failures": long_table("beta", "delta", "frequency", rows=failures),
    }


@styled
def draw(tables: Mapping[str, Table]) -> Figure:
    figure = Figure(figsize=(9.6, 3.9))
    *of_betas, right = figure.subplots(1, 3)
    for beta, axes in zip(BETAS, of_betas, strict=True):
        rows = where(tables["estimates"], beta=beta)
        count = rows["num_samples"]
        axes.plot(count, rows["bound_eq_32"], color=VERMILION, linestyle="-.", label="bound of Eq. 32")
        axes.plot(count, rows["bound_eq_30"], color=GREEN, linestyle="--", label="bound of Eq. 30")
        label = f"{100 * (1 - DELTA):g}% of estimates lie below"
        axes.plot(count, rows["simulated_quantile"], "o-", color=BLUE, label=label)
        axes.plot(count, rows["exact"], color=SOFT, linewidth=1, label="L^β(X), exact")
        axes.set(title=f"Lemma B.2, β = {beta:g}, δ = {DELTA:g}", xscale="log")
        axes.set(xlabel="N (samples)", ylabel="L^β (reward units)")
    for beta, color, style in zip(BETAS, LINES, ("o-", "s--"), strict=False):
        rows = where(tables["failures"], beta=beta)
        seen = rows["frequency"] > 0
        delta, frequency = rows["delta"][seen], rows["frequency"][seen]
        right.plot(delta, frequency, style, color=color, label=f"β = {beta:g}")
    right.plot(DELTAS, DELTAS, color=SOFT, linewidth=1, label="δ, the most that is allowed")
    right.set(title=f"exp(L̂/β) beyond its bound, N = {NUM_SAMPLES}", xscale="log", yscale="log")
    right.set(xlabel="δ (probability)", ylabel="frequency of failures")
    for axes in figure.axes:
        legend_below(axes)
    return figure


FIGURE = PaperFigure(
    "Lemma B.2: estimates from N samples against both bounds, and how often they fail", compute, draw
)
