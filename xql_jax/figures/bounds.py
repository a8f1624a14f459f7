"""Figures B1 and B2: soft values and estimates of L^beta against the bounds of Lemmas B.1 and B.2."""

import numpy as np
from matplotlib.figure import Figure

from xql_jax.figures.tables import PaperFigure, Table, Tables, long_table, where
from xql_jax.reports.style import BLUE, GREEN, LINES, ORANGE, SOFT, VERMILION, legend_below, styled
from xql_jax.theory.bounds import (
    linear_log_partition_upper_bound,
    log_partition_upper_bound,
    partition_upper_bound,
    printed_soft_value_upper_bound,
    soft_value_upper_bound,
)
from xql_jax.theory.log_partition import log_partition

Q_MAX = 1.0  # size of the estimates, reward units
NUM_ACTIONS = 20
NUM_ESTIMATES = 20_000
B1_BETAS = np.geomspace(0.02, 20.0, 60)
# P(Q = +Q_MAX); estimates are either Q_MAX or -Q_MAX. With 0.25 the bound printed in the paper fails.
CASES = {"E[Q] = 0": 0.5, "E[Q] = −0.5": 0.25}
X_MAX = 1.0  # X is uniform in [-X_MAX, X_MAX], reward units
B2_BETAS = (0.2, 1.0)
DELTA = 0.05
SAMPLES = np.unique(np.geomspace(5, 2_000, 14).astype(int))
DELTAS = np.geomspace(0.001, 0.5, 25)
NUM_SAMPLES = 50  # N for which failures of the bound are counted
REPLICATIONS = 20_000


def compute_b1(seed: int) -> Tables:
    """Simulates unbiased estimates that are either Q_MAX or -Q_MAX; mu is uniform over the actions."""
    generator = np.random.default_rng(seed)
    tables: list[Table] = []
    for case, probability in CASES.items():
        # P(estimate = +Q_MAX) for each action; its mean is `probability`.
        chances = np.clip(probability + 0.2 * np.linspace(-1.0, 1.0, NUM_ACTIONS), 0.0, 1.0)
        expected = Q_MAX * (2.0 * chances - 1.0)
        estimates = np.where(generator.random((NUM_ESTIMATES, NUM_ACTIONS)) < chances, Q_MAX, -Q_MAX)
        mean_q = float(expected.mean())
        simulated = np.array([log_partition(estimates, beta) for beta in B1_BETAS])  # [betas, estimates]
        table = {
            "case": np.full(len(B1_BETAS), case),
            "beta": B1_BETAS,
            "true_value": np.array([float(log_partition(expected, beta)) for beta in B1_BETAS]),
            "estimated_value": simulated.mean(1),
            "standard_error": simulated.std(1) / np.sqrt(NUM_ESTIMATES),
            "printed_bound": printed_soft_value_upper_bound(mean_q, Q_MAX, B1_BETAS),
            "corrected_bound": soft_value_upper_bound(mean_q, Q_MAX, B1_BETAS),
            "mean": np.full(len(B1_BETAS), mean_q),
        }
        tables.append(table)
    return {"values": {name: np.concatenate([table[name] for table in tables]) for name in table}}


@styled
def draw_b1(tables: Tables) -> Figure:
    figure = Figure(figsize=(7.5, 3.7))
    for case, axes in zip(CASES, figure.subplots(1, 2, sharey=True), strict=True):
        rows = where(tables["values"], case=case)
        beta, printed, estimated = rows["beta"], rows["printed_bound"], rows["estimated_value"]
        label = "upper bound, corrected (2β log cosh)"
        axes.plot(beta, rows["corrected_bound"], color=GREEN, linestyle="--", label=label)
        label = "upper bound, as printed (β log cosh)"
        axes.plot(beta, printed, color=VERMILION, linestyle="-.", label=label)
        axes.plot(beta, estimated, color=BLUE, linewidth=2.2, label="E[V̂], simulated")
        label = "V, the lower bound"
        axes.plot(beta, rows["true_value"], color=ORANGE, linestyle=":", linewidth=2.2, label=label)
        axes.plot(beta, rows["mean"], color="0.5", linewidth=0.8, label="E[Q]")
        fails = estimated > printed + 4.0 * rows["standard_error"]  # beyond what the simulation can miss
        if fails.any():
            axes.fill_between(beta, printed, estimated, where=fails, color=VERMILION, alpha=0.2)
            shown = np.flatnonzero(fails)[fails.sum() // 3]
            axes.annotate(
                "the printed bound\nfails here",
                (beta[shown], estimated[shown]),
                xytext=(0.06, 0.2),
                textcoords="axes fraction",
                arrowprops={"arrowstyle": "->"},
            )
        axes.set(title=f"Lemma B.1, {case}", xlabel="β (reward units)", xscale="log")
    figure.axes[0].set_ylabel("value (reward units, estimates within ±1)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


FIGURE_B1 = PaperFigure(
    "Lemma B.1: bias of soft values against its bounds, printed and corrected", compute_b1, draw_b1
)


def exact_partition(beta: float) -> float:
    """Returns E[exp(X / beta)] for the uniform X."""
    return float(np.sinh(X_MAX / beta) * beta / X_MAX)


def compute_b2(seed: int) -> Tables:
    generator = np.random.default_rng(seed)
    estimates: list[tuple] = []
    failures: list[tuple] = []
    for beta in B2_BETAS:
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
def draw_b2(tables: Tables) -> Figure:
    figure = Figure(figsize=(9.6, 3.9))
    *of_betas, right = figure.subplots(1, 3)
    for beta, axes in zip(B2_BETAS, of_betas, strict=True):
        rows = where(tables["estimates"], beta=beta)
        count = rows["num_samples"]
        axes.plot(count, rows["bound_eq_32"], color=VERMILION, linestyle="-.", label="bound of Eq. 32")
        axes.plot(count, rows["bound_eq_30"], color=GREEN, linestyle="--", label="bound of Eq. 30")
        label = f"{100 * (1 - DELTA):g}% of estimates lie below"
        axes.plot(count, rows["simulated_quantile"], "o-", color=BLUE, label=label)
        axes.plot(count, rows["exact"], color=SOFT, linewidth=1, label="L^β(X), exact")
        axes.set(title=f"Lemma B.2, β = {beta:g}, δ = {DELTA:g}", xscale="log")
        axes.set(xlabel="N (samples)", ylabel="L^β (reward units)")
    for beta, color, style in zip(B2_BETAS, LINES, ("o-", "s--"), strict=False):
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


FIGURE_B2 = PaperFigure(
    "Lemma B.2: estimates from N samples against both bounds, and how often they fail", compute_b2, draw_b2
)
