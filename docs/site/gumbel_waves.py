"""Draws docs/images/figure_GEM.png: a Gumbel error moves backwards through an MDP and fades.

  python docs/site/gumbel_waves.py

Source: Garg et al. 2023, Appendix A.2.1.
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from xql_jax.pictures.style import LINES, SOFT, count_axis, legend_below, render, styled
from xql_jax.theory.error_model import error_wave, evolve, evolve_samples
from xql_jax.theory.soft_mdp import SoftMDP
from xql_jax.workshop.paper.columns import Tables, long_table

CHAIN_DISCOUNT = 0.9
FIRST_SCALE = 1.0  # beta of the first errors, reward units
CHAIN = 24  # states, each of which leads to the previous one
WAVE_STEPS = 20
# The deviation of the error after each step, by Eq. 26.
DEVIATIONS = FIRST_SCALE * np.pi / np.sqrt(6.0) * CHAIN_DISCOUNT ** np.arange(WAVE_STEPS + 1)
NUM_DRAWS = 20_000
NUM_INDEPENDENT_DRAWS = 200_000
INDEPENDENT_STEPS = 10  # more would need more draws, see `evolve_samples`


def chain() -> SoftMDP:
    """Returns a one-way corridor: both actions lead from s to s - 1, and from 0 to 0. All rewards are 0."""
    shape = (CHAIN, 2)
    before = np.broadcast_to(np.maximum(np.arange(CHAIN) - 1, 0)[:, None, None], (*shape, 1))
    rewards, mu = np.zeros(shape), np.full(shape, 0.5)
    return SoftMDP(before, np.ones((*shape, 1)), rewards, mu, CHAIN_DISCOUNT, FIRST_SCALE)


def compute_error_waves(seed: int) -> Tables:
    generator = np.random.default_rng(seed)
    wave = error_wave(generator, chain(), FIRST_SCALE, state=1, steps=WAVE_STEPS, num_samples=NUM_DRAWS)
    exact = DEVIATIONS[:, None] * np.eye(WAVE_STEPS + 1, CHAIN, k=1)  # after t steps it is in state 1 + t
    of_wave = [*np.indices(wave.shape), wave, exact]

    # Errors in all state-action pairs at once: Eq. 25 unchanged, and Eq. 25 with the draws made independent
    # between the steps, as Eq. 26 assumes. Under Eq. 25, pairs with the same successor have the same error,
    # so the maximum over them is smaller than Eq. 26 says.
    mdp = SoftMDP.random(generator, num_states=4, num_actions=2, num_successors=1, discount=CHAIN_DISCOUNT)
    location, scale = np.zeros(mdp.rewards.shape), FIRST_SCALE
    samples = generator.gumbel(0.0, FIRST_SCALE, (NUM_INDEPENDENT_DRAWS, *location.shape))
    as_they_are = samples
    deviations: list[tuple] = []
    means: list[tuple] = []
    for t in range(INDEPENDENT_STEPS + 1):
        law_mean = float(location[0, 0]) + scale * float(np.euler_gamma)
        deviations.append((t, float(samples.std(0).mean()), np.pi / np.sqrt(6.0) * scale))
        means.append((t, float(as_they_are[:, 0, 0].mean()), float(samples[:, 0, 0].mean()), law_mean))
        samples = evolve_samples(mdp, generator.permuted(samples, axis=0))
        as_they_are = evolve_samples(mdp, as_they_are)
        location, scale = evolve(mdp, location, scale)
    names = ("step", "state", "simulated_deviation", "exact_deviation")
    return {
        "wave": {name: column.ravel() for name, column in zip(names, of_wave, strict=True)},
        "deviations": long_table("step", "simulated", "exact", rows=deviations),
        "means": long_table("step", "eq_25", "shuffled", "eq_26", rows=means),
    }


@styled()
def draw_error_waves(tables: Tables) -> Figure:
    figure = Figure(figsize=(11.4, 3.8))
    wave, scales, means = figure.subplots(1, 3)
    grid = tables["wave"]["simulated_deviation"].reshape(WAVE_STEPS + 1, CHAIN)
    wave.grid(False)
    image = wave.imshow(grid, origin="lower", aspect="auto")
    bar = figure.colorbar(image, ax=wave, label="standard deviation of V (reward units)")
    bar.outline.set_visible(False)  # type: ignore[operator]
    wave.set(title="One wrong state: its error runs to the parents")
    wave.set(xlabel="state (moves from the chain's end)", ylabel="step t of Eq. 25")

    everywhere = tables["deviations"]["step"], tables["deviations"]["simulated"]
    scales.plot(DEVIATIONS, color=SOFT, label="γ^t β π / √6, by Eq. 26")
    scales.plot(*everywhere, "o", color=LINES[0], label="errors in all pairs, shuffled")
    scales.plot(grid.max(1), "x", color=LINES[1], markersize=5, label="crest of the wave on the left")
    scales.set(title=f"The scale shrinks by γ = {CHAIN_DISCOUNT:g} a step", yscale="log")
    scales.set(xlabel="step t", ylabel="standard deviation (reward units)")
    scales.set_yticks([0.2, 0.4, 0.8, 1.2], ["0.2", "0.4", "0.8", "1.2"])
    scales.yaxis.set_minor_locator(NullLocator())

    label = "Eq. 25 with the draws shuffled at each step"
    means.plot(tables["means"]["eq_26"], color=SOFT, label="Eq. 26")
    means.plot(tables["means"]["shuffled"], "o", color=LINES[0], label=label)
    means.plot(tables["means"]["eq_25"], "s", color=LINES[1], label="Eq. 25 as it is: errors are shared")
    means.set(title="Q of one pair: Eq. 26 overstates its mean")
    means.set(xlabel="step t", ylabel="mean of Z_t (reward units)")

    for axis in (wave.yaxis, scales.xaxis, means.xaxis):
        count_axis(axis)
    legend_below(scales)
    legend_below(means)
    return figure


if __name__ == "__main__":
    picture = Path(__file__).resolve().parents[1] / "images" / "figure_GEM.png"
    picture.write_bytes(render(draw_error_waves(compute_error_waves(0))))
