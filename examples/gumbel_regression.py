"""Gumbel regression: a loss with a minimiser that moves from the mean of Y to its maximum as beta falls.

Y given x is exponential, with mean 1 at x = 0 and mean 2 at x = 1. `gumbel_regression` minimises the loss of
Eq. 7, exp(z) - z - 1 with z = (Y - f(x)) / beta, by stochastic gradient descent.
The minimiser is L^beta(Y|x) = beta * log E[exp(Y / beta) | x] (Lemma 3.2). It is near the mean of Y for a
large beta, and near its maximum for a small one (Lemma 3.1).

Run:    python examples/gumbel_regression.py
Prints: the mean, and a row per beta with the fit's predictions at both x, the exact values for these samples
        and those for the exponential distribution, which are infinite if beta is at most the mean.

Source: Garg et al. 2023 (Extreme Q-Learning), Section 3.2.
"""

import numpy as np

from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.regression import gumbel_regression

NUM_SAMPLES = 10_000  # per x
MEANS = (1.0, 2.0)  # of Y at x = 0 and at x = 1, reward units
BETAS = (100.0, 10.0, 5.0, 2.0, 1.0, 0.5)  # reward units


def exponential_log_partition(mean: float, beta: float) -> float:
    """Returns L^beta(Y) of an exponential Y, reward units, from E[exp(Y / beta)] = 1 / (1 - mean / beta).

    It is infinite if beta is at most the mean.
    """
    return -beta * np.log1p(-mean / beta) if beta > mean else np.inf


generator = np.random.default_rng(0)
samples = [generator.exponential(mean, NUM_SAMPLES) for mean in MEANS]
X = np.repeat([[0.0], [1.0]], NUM_SAMPLES, axis=0)
y = np.concatenate(samples)
both = [[0.0], [1.0]]  # inputs of the predictions

# Each row: the fit's name; then, at both x, the fit, the exact value for the samples and that for the law.
rows = [("mean", (np.nan, np.nan), [np.mean(group) for group in samples], MEANS)]  # needs no fit

for beta in BETAS:
    fitted = gumbel_regression(X, y, beta)(both)
    exact = [log_partition(group, beta) for group in samples]
    law = [exponential_log_partition(mean, beta) for mean in MEANS]
    rows.append((f"Gumbel, beta {beta:g}", fitted, exact, law))

print("Predictions of Y where x = 0 and where x = 1, all in reward units\n")
print(f"{'':18}{'x = 0':>8}{'':23}{'x = 1':>8}")
print(f"{'fit':18}" + "   ".join([f"{'fitted':>8}{'samples':>10}{'law':>10}"] * 2))
for name, *columns in rows:
    cells = [f"{a:8.3f}{b:10.3f}{c:10.3f}" for a, b, c in zip(*columns, strict=True)]
    print(f"{name:18}" + "   ".join(cells).replace("nan", "  -"))
print(f"{'largest sample':18}" + "   ".join(f"{'-':>8}{group.max():10.3f}{'inf':>10}" for group in samples))
print(
    "\nSee how the Gumbel rows climb with falling beta from the mean towards the largest sample, each as\n"
    "the exact operator says. Where the law's value is infinite (inf), the samples' tells how large the\n"
    "largest few of them happen to be."
)
