"""Which law maxima follow, and what Gumbel regression reaches: the figures of theory in docs/claims.md.

  python benchmarks/theory_claims.py docs/results/theory.csv

A row is a claim, a case and a number. `maximum`: the Kolmogorov-Smirnov distance of 20,000 maxima of n draws
from a law fitted to them by maximum likelihood (Theorem 1: the Gumbel's goes to 0 for exponential tails). The
Gumbel is the theorem's, whose long tail is on the right.
`minimiser`: the largest difference of a Gumbel regression from the exact beta log mean exp(y / beta) over
beta from 0.5 to 20 standard deviations of y, in these deviations.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import gumbel_r, kstest, norm

from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.regression import gumbel_regression

MAXIMA, SAMPLES = 20_000, 10_000
BETAS = np.array([0.5, 1.0, 2.0, 5.0, 20.0])
LAWS = {
    "normal": np.random.Generator.standard_normal,
    "exponential": np.random.Generator.standard_exponential,
    "logistic": lambda generator, size: generator.logistic(size=size),
    "uniform": lambda generator, size: generator.uniform(size=size),
}


def rows() -> Iterator[tuple[str, str, str]]:
    generator = np.random.default_rng(0)
    for law, draw in LAWS.items():
        for count in (1, 4, 100, 1_000):
            parts = [draw(generator, (1_000, count)).max(axis=1) for _ in range(MAXIMA // 1_000)]
            maxima = np.concatenate(parts)
            fitted = {"Gumbel": gumbel_r(*gumbel_r.fit(maxima)), "Gaussian": norm(*norm.fit(maxima))}
            for name, distribution in fitted.items():
                distance = kstest(maxima, distribution.cdf, method="asymp").statistic
                yield "maximum", f"{law} {count} {name}", f"{distance:.4f}"
    for law, draw in LAWS.items():
        y = draw(generator, (SAMPLES,))
        betas = BETAS * y.std()
        zeros = np.zeros((SAMPLES, 1))
        fitted = [gumbel_regression(zeros, y, beta)(zeros[:1])[0] for beta in betas]
        exact = np.array([log_partition(y, beta) for beta in betas])
        worst = np.abs(fitted - exact).max() / y.std()
        yield "minimiser", law, f"{worst:.4f}"


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w", newline="") as file:
        csv.writer(file).writerows([("claim", "case", "value"), *rows()])
