"""Gumbel regression: one loss, whose minimiser moves from the mean of Y to its maximum as beta falls.

Y given x is exponential: of mean 1 where x = 0, of mean 2 where x = 1. `GumbelRegressor` minimises the loss
of Eq. 7, exp(z) - z - 1 with z = (Y - f(x)) / beta, by stochastic gradients on minibatches, at all betas in
one fit. The minimiser is L^beta(Y|x) = beta * log E[exp(Y / beta) | x] (Lemma 3.2): near the mean of Y for a
large beta, near its maximum for a small one (Lemma 3.1). Least squares and the expectile regression of IQL
stand beside it: three estimators that differ in nothing but their loss.

Run:    python examples/gumbel_regression.py
Prints: a row per fit, with its predictions at both x; what they should be on these samples, computed exactly;
        and the same of the exponential law itself, whose L^beta is infinite from beta = mean downwards.

Source: Garg et al. 2023 (Extreme Q-Learning), Section 3.2.
"""

import numpy as np
from scipy import stats

from xql_jax.theory.log_partition import log_partition
from xql_jax.theory.regression import ExpectileRegressor, GumbelRegressor, MeanRegressor

NUM_SAMPLES = 10_000  # of each x
MEANS = (1.0, 2.0)  # of Y where x = 0 and where x = 1, reward units
BETAS = (100.0, 10.0, 5.0, 2.0, 1.0, 0.5)  # reward units
EXPECTILE = 0.9


def exponential_log_partition(mean: float, beta: float) -> float:
    """L^beta(Y) of an exponential Y, reward units: E[exp(Y / beta)] = 1 / (1 - mean / beta), or diverges."""
    return -beta * np.log1p(-mean / beta) if beta > mean else np.inf


generator = np.random.default_rng(0)
samples = [generator.exponential(mean, NUM_SAMPLES) for mean in MEANS]
X = np.repeat([[0.0], [1.0]], NUM_SAMPLES, axis=0)
y = np.concatenate(samples)
both = [[0.0], [1.0]]  # where we ask for predictions

# Each row: the fit's name, then at both x what was fitted, the samples' exact value and the law's.
fitted = MeanRegressor(random_state=0).fit(X, y).predict(both)
rows = [("mean", fitted, [np.mean(group) for group in samples], MEANS)]

fitted = ExpectileRegressor(EXPECTILE, random_state=0).fit(X, y).predict(both)
exact = [stats.expectile(group, EXPECTILE) for group in samples]
rows.append((f"expectile {EXPECTILE:g}", fitted, exact, (np.nan, np.nan)))  # the law's is not computed

fitted_by_beta = GumbelRegressor(BETAS, random_state=0).fit(X, y).predict(both).T  # a row for each beta
for beta, fitted in zip(BETAS, fitted_by_beta, strict=True):
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
