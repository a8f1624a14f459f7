"""Figure GEM: a Gumbel error moves backwards through an MDP and fades (Garg et al. 2023, Appendix A.2.1)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from xql_jax.paper.columns import Tables, long_table, where
from xql_jax.pictures.style import LINES, SOFT, count_axis, legend_below, styled
from xql_jax.theory.error_model import error_wave, evolve, evolve_samples
from xql_jax.theory.gumbel import Gumbel
from xql_jax.theory.soft_mdp import SoftMDP

CHAIN_DISCOUNT = 0.9
FIRST_SCALE = 1.0  # beta of the first errors, reward units
CHAIN = 24  # states, each of which leads to the previous one
WAVE_STEPS = 20
NUM_DRAWS = 20_000
NUM_INDEPENDENT_DRAWS = 200_000
INDEPENDENT_STEPS = 10  # more would need more draws, see `evolve_samples`
SHOWN = (0, 3, 8)  # steps for which the distribution is drawn


def chain() -> SoftMDP:
    """Returns a one-way corridor: both actions lead from s to s - 1, and from 0 to 0. All rewards are 0."""
    shape = (CHAIN, 2)
    before = np.broadcast_to(np.maximum(np.arange(CHAIN) - 1, 0)[:, None, None], (*shape, 1))
    rewards, mu = np.zeros(shape), np.full(shape, 0.5)
    return SoftMDP(before, np.ones((*shape, 1)), rewards, mu, CHAIN_DISCOUNT, FIRST_SCALE)


def compute_error_waves(seed: int) -> Tables:
    generator = np.random.default_rng(seed)
    noise = Gumbel(0.0, FIRST_SCALE)
    wave = error_wave(generator, chain(), noise, state=1, steps=WAVE_STEPS, num_samples=NUM_DRAWS)
    shrinking = FIRST_SCALE * np.pi / np.sqrt(6.0) * CHAIN_DISCOUNT ** np.arange(WAVE_STEPS + 1)
    exact = shrinking[:, None] * np.eye(WAVE_STEPS + 1, CHAIN, k=1)  # after t steps it is in state 1 + t
    of_wave = [*np.indices(wave.shape), wave, exact]

    # Errors in all state-action pairs at once: Eq. 25 unchanged, and Eq. 25 with the draws made independent
    # between the steps, as Eq. 26 assumes. Under Eq. 25, pairs with the same successor have the same error,
    # so the maximum over them is smaller than Eq. 26 says.
    mdp = SoftMDP.random(generator, num_states=4, num_actions=2, num_successors=1, discount=CHAIN_DISCOUNT)
    location, scale = np.zeros(mdp.rewards.shape), FIRST_SCALE
    samples = noise.sample(generator, (NUM_INDEPENDENT_DRAWS, *location.shape))
    as_they_are = samples
    deviations: list[tuple] = []
    means: list[tuple] = []
    shuffled: list[tuple] = []
    unshuffled: list[tuple] = []
    for t in range(INDEPENDENT_STEPS + 1):
        law = Gumbel(float(location[0, 0]), scale)
        deviations.append((t, float(samples.std(0).mean()), np.pi / np.sqrt(6.0) * scale))
        means.append((t, float(as_they_are[:, 0, 0].mean()), float(samples[:, 0, 0].mean()), law.mean))
        if t in SHOWN:
            shuffled += _histogram(t, samples[:, 0, 0], law)
            unshuffled += _histogram(t, as_they_are[:, 0, 0], law)
        samples = evolve_samples(mdp, generator.permuted(samples, axis=0))
        as_they_are = evolve_samples(mdp, as_they_are)
        location, scale = evolve(mdp, location, scale)
    names = ("step", "state", "simulated_deviation", "exact_deviation")
    return {
        "wave": {name: column.ravel() for name, column in zip(names, of_wave, strict=True)},
        "deviations": long_table("step", "simulated", "exact", rows=deviations),
        "means": long_table("step", "eq_25", "shuffled", "eq_26", rows=means),
        "densities": long_table("step", "z", "simulated", "exact", rows=shuffled),
        "densities_of_eq_25": long_table("step", "z", "simulated", "exact", rows=unshuffled),
    }


def _histogram(step: int, draws: np.ndarray, law: Gumbel) -> list[tuple]:
    """Returns rows of the step, a bin's centre, and the densities there of the draws and of the law."""
    density, edges = np.histogram(draws, bins=60, density=True)
    centres = (edges[:-1] + edges[1:]) / 2
    return [(step, *row) for row in zip(centres, density, law.density(centres), strict=True)]


@styled()
def draw_error_waves(tables: Tables) -> Figure:
    figure = Figure(figsize=(7.6, 7.6))
    (wave, scales), (means, densities) = figure.subplots(2, 2)
    grid = tables["wave"]["simulated_deviation"].reshape(WAVE_STEPS + 1, CHAIN)
    wave.grid(False)
    image = wave.imshow(grid, origin="lower", aspect="auto")
    bar = figure.colorbar(image, ax=wave, label="standard deviation of V (reward units)")
    bar.outline.set_visible(False)  # type: ignore[operator]
    wave.set(title="One wrong state: its error runs to the parents")
    wave.set(xlabel="state (moves from the chain's end)", ylabel="step t of Eq. 25")

    predicted = FIRST_SCALE * np.pi / np.sqrt(6.0) * CHAIN_DISCOUNT ** np.arange(WAVE_STEPS + 1)
    everywhere = tables["deviations"]["step"], tables["deviations"]["simulated"]
    scales.plot(predicted, color=SOFT, label="γ^t β π / √6, by Eq. 26")
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
    legend_below(scales, 1)
    legend_below(means, 1)
    _draw_densities(densities, tables)
    return figure


def _draw_densities(axes: Axes, tables: Tables) -> None:
    for step, color in zip(SHOWN, LINES, strict=False):
        shuffled, as_it_is = (where(tables[name], step=step) for name in ("densities", "densities_of_eq_25"))
        centres, half = shuffled["z"], (shuffled["z"][1] - shuffled["z"][0]) / 2
        edges = [*(centres - half), centres[-1] + half]
        axes.stairs(shuffled["simulated"], edges, color=color, alpha=0.3, fill=True)
        axes.plot(centres, shuffled["exact"], color=color, linewidth=1.2, label=f"t = {step}")
        axes.plot(as_it_is["z"], as_it_is["simulated"], color=color, linestyle=":")
    axes.set(title="Q of one pair: its law")
    axes.set(xlabel="Z_t (reward units)", ylabel="density (1 / reward units)")
    handles, _ = axes.get_legend_handles_labels()
    handles += [
        Line2D([], [], color=SOFT, linewidth=1.2, label="Eq. 26"),
        Patch(color=SOFT, alpha=0.3, label="Eq. 25, shuffled"),
        Line2D([], [], color=SOFT, linestyle=":", label="Eq. 25 as it is"),
    ]
    legend_below(axes, 2, handles=handles)
