"""Figure B1: how far soft values of noisy Q estimates exceed the mean of Q, and the bound of Lemma B.1."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from xql_jax.figures.paper_figure import PaperFigure, Table, where
from xql_jax.reports.palette import BLUE, GREEN, ORANGE, VERMILION
from xql_jax.reports.style import styled
from xql_jax.theory.bounds import printed_soft_value_upper_bound, soft_value_upper_bound
from xql_jax.theory.log_partition import log_partition

Q_MAX = 1.0  # size of the estimates, reward units
NUM_ACTIONS = 20
NUM_ESTIMATES = 20_000
BETAS = np.geomspace(0.02, 20.0, 60)
# P(Q = +Q_MAX); estimates are either Q_MAX or -Q_MAX. With 0.25 the bound printed in the paper fails.
CASES = {"E[Q] = 0": 0.5, "E[Q] = −0.5": 0.25}


def compute(seed: int) -> dict[str, Table]:
    """Simulates unbiased estimates that are either Q_MAX or -Q_MAX; mu is uniform over the actions."""
    generator = np.random.default_rng(seed)
    tables: list[Table] = []
    for case, probability in CASES.items():
        # P(estimate = +Q_MAX) for each action; its mean is `probability`.
        chances = np.clip(probability + 0.2 * np.linspace(-1.0, 1.0, NUM_ACTIONS), 0.0, 1.0)
        expected = Q_MAX * (2.0 * chances - 1.0)
        estimates = np.where(generator.random((NUM_ESTIMATES, NUM_ACTIONS)) < chances, Q_MAX, -Q_MAX)
        mean_q = float(expected.mean())
        simulated = np.array([log_partition(estimates, beta) for beta in BETAS])  # [betas, estimates]
        table = {
            "case": np.full(len(BETAS), case),
            "beta": BETAS,
            "true_value": np.array([float(log_partition(expected, beta)) for beta in BETAS]),
            "estimated_value": simulated.mean(1),
            "standard_error": simulated.std(1) / np.sqrt(NUM_ESTIMATES),
            "printed_bound": printed_soft_value_upper_bound(mean_q, Q_MAX, BETAS),
            "corrected_bound": soft_value_upper_bound(mean_q, Q_MAX, BETAS),
            "mean": np.full(len(BETAS), mean_q),
        }
        tables.append(table)
    return {"values": {name: np.concatenate([table[name] for table in tables]) for name in table}}


@styled
def draw(tables: Mapping[str, Table]) -> Figure:
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


FIGURE = PaperFigure(
    "Lemma B.1: bias of soft values against its bounds, printed and corrected", compute, draw
)
