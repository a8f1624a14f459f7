"""Figure GEM: a Gumbel error runs backwards through an MDP and fades (Garg et al. 2023, Appendix A.2.1)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from xql_jax.figures.paper_figure import PaperFigure, Table, long_table, where
from xql_jax.reports.palette import HEAT, LINES
from xql_jax.theory.error_model import evolve, evolve_samples, independent
from xql_jax.theory.error_wave import error_wave
from xql_jax.theory.gumbel import Gumbel
from xql_jax.theory.soft_mdp import SoftMDP

DISCOUNT = 0.9
SCALE = 1.0  # beta of the first errors, reward units
CHAIN = 24  # states, each leading to the one before
STEPS = 20
NUM_DRAWS = 20_000
NUM_INDEPENDENT_DRAWS = 200_000
INDEPENDENT_STEPS = 10  # no more than so many draws allow: `independent`
SHOWN = (0, 3, 8)  # steps whose distribution is drawn


def chain() -> SoftMDP:
    """One-way corridor: both actions of state s lead to s - 1, state 0 to itself; nothing pays."""
    before = np.maximum(np.arange(CHAIN) - 1, 0)
    shape = (CHAIN, 2)
    return SoftMDP(
        np.broadcast_to(before[:, None, None], (*shape, 1)),
        np.ones((*shape, 1)),
        np.zeros(shape),
        np.full(shape, 0.5),
        DISCOUNT,
        SCALE,
    )


def compute(seed: int) -> dict[str, Table]:
    generator = np.random.default_rng(seed)
    wave = error_wave(generator, chain(), Gumbel(0.0, SCALE), state=1, steps=STEPS, num_samples=NUM_DRAWS)
    rows = [
        (step, state, wave.simulated_deviation[step, state], wave.exact_deviation[step, state])
        for step in range(STEPS + 1)
        for state in range(CHAIN)
    ]

    # Errors in every pair at once: the process of Eq. 26, with draws made independent between the steps.
    mdp = SoftMDP.random(generator, num_states=4, num_actions=2, num_successors=1, discount=DISCOUNT)
    location, scale = np.zeros(mdp.rewards.shape), SCALE
    samples = Gumbel(0.0, SCALE).sample(generator, (NUM_INDEPENDENT_DRAWS, *location.shape))
    scales: list[tuple] = []
    densities: list[tuple] = []
    for step in range(INDEPENDENT_STEPS + 1):
        deviation = np.pi / np.sqrt(6.0) * scale
        scales.append((step, float(samples.std(0).mean()), deviation))
        if step in SHOWN:
            counts, edges = np.histogram(samples[:, 0, 0], bins=60, density=True)
            centres = (edges[:-1] + edges[1:]) / 2
            exact = Gumbel(float(location[0, 0]), scale).density(centres)
            densities.extend((step, *row) for row in zip(centres, counts, exact, strict=True))
        samples = evolve_samples(mdp, independent(generator, samples))
        location, scale = evolve(mdp, location, scale)
    return {
        "wave": long_table("step", "state", "simulated_deviation", "exact_deviation", rows=rows),
        "deviations": long_table("step", "simulated", "exact", rows=scales),
        "densities": long_table("step", "z", "simulated", "exact", rows=densities),
    }


def bin_edges(centres: np.ndarray) -> np.ndarray:
    """Returns the edges of bins of one width."""
    width = centres[1] - centres[0]
    return np.append(centres - width / 2, centres[-1] + width / 2)


def draw(tables: Mapping[str, Table]) -> Figure:
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    left, centre, right = figure.subplots(1, 3)
    wave = tables["wave"]
    grid = wave["simulated_deviation"].reshape(STEPS + 1, CHAIN)
    image = left.imshow(grid, cmap=HEAT, origin="lower", aspect="auto")
    figure.colorbar(image, ax=left, label="standard deviation of V (reward units)")
    left.set(title="One erroneous state: the wave runs to its parents")
    left.set(xlabel="state (moves from the chain's end)", ylabel="step t of Eq. 25")
    left.yaxis.get_major_locator().set_params(integer=True)

    deviations = tables["deviations"]
    steps = np.arange(STEPS + 1)
    crest = [where(wave, step=step)["simulated_deviation"].max() for step in range(STEPS + 1)]
    predicted = SCALE * np.pi / np.sqrt(6.0) * DISCOUNT**steps
    centre.plot(steps, predicted, color="0.4", label="γ^t β π / √6, by Eq. 26")
    everywhere = deviations["step"], deviations["simulated"]
    centre.plot(*everywhere, "o", color=LINES[0], markersize=5, label="errors in all pairs")
    centre.plot(steps, crest, "x", color=LINES[1], markersize=6, label="crest of the wave on the left")
    centre.set(title=f"The scale shrinks by γ = {DISCOUNT:g} a step", yscale="log")
    centre.set(xlabel="step t of Eq. 25", ylabel="standard deviation (reward units)")
    centre.xaxis.get_major_locator().set_params(integer=True)

    for step, color, style in zip(SHOWN, LINES, ("-", "--", "-."), strict=False):
        rows = where(tables["densities"], step=step)
        label = f"t = {step}: Gumbel of Eq. 26"
        right.stairs(rows["simulated"], bin_edges(rows["z"]), color=color, alpha=0.4, fill=True)
        right.plot(rows["z"], rows["exact"], color=color, linestyle=style, label=label)
    right.set(title="Q of one pair: simulated, and Gumbel")
    right.set(xlabel="Z_t (reward units)", ylabel="density (1 / reward units)")
    for axes in (centre, right):
        axes.legend(fontsize="small")
        axes.grid(alpha=0.3)
    return figure


FIGURE = PaperFigure("Gumbel errors in time: the wave, its scale and its law (Eq. 25 and 26)", compute, draw)
