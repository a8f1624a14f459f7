"""What to train beside a method: the cloning that the returns of a dataset's episodes suggest."""

import numpy as np

from xql_jax.data.dataset import Dataset, best_trajectories, out_of_order, whole_episodes

FEW_EPISODES = 20  # returns of fewer have no shape
TWO_HEAPS = 0.9  # share of the returns' variance that two heaps explain
ALIKE = 0.1  # standard deviation of returns that are alike, as a share of their mean
FEW_ROWS = 10_000  # of which a network learns the noise by heart, too


def cloning_to_beat(dataset: Dataset) -> list[str]:
    """Names the cloning that a method has to beat, in a line at most, by the returns of whole episodes.

    If returns are alike, rewards prefer no episode: all are cloned. If they have two heaps, the upper heap is
    cloned, else the best tenth, as by 10%BC (Chen et al. 2021). The best split into two heaps explains 64% of
    the variance of normal numbers, and 75% of uniform numbers'.
    """
    episodes = whole_episodes(dataset)
    returns, lengths = episodes.trajectory_returns(), episodes.trajectory_lengths()
    mean, spread = returns.mean(), returns.std()
    if len(returns) < FEW_EPISODES // 4 or not (spread or mean) or any(map(out_of_order, dataset.sources())):
        return []
    if spread <= ALIKE * abs(mean):
        flags = "--method=bc --dropout_rate=0.1" if dataset.size < FEW_ROWS else "--method=bc"
        return [
            f"the {len(returns):,} episodes have returns alike, {mean:.4g} ± {spread:.2g}, so rewards prefer "
            f"none of them: {flags} clones all, a score to beat"
        ]
    order = np.argsort(-returns, kind="stable")
    ranked = returns[order] - mean
    upper = np.arange(1, len(ranked))
    # The sum of squares between the heaps, for each number of episodes in the upper heap.
    between = np.cumsum(ranked)[:-1] ** 2 * (1 / upper + 1 / upper[::-1])
    number = int(upper[between.argmax()])
    if (
        len(ranked) >= FEW_EPISODES
        and number >= FEW_EPISODES // 4
        and between.max() >= TWO_HEAPS * np.square(ranked).sum()
    ):
        share = np.ceil(1_000 * lengths[order[:number]].sum() / dataset.size) / 1_000
        means = returns[order[:number]].mean(), returns[order[number:]].mean()
        return [
            f"{number:,} of {len(ranked):,} episodes have returns of about {means[0]:.4g}, the others of "
            f"about {means[1]:.4g}: --method=bc --top_returns={share:g} clones the {number:,} alone, a score "
            "to beat"
        ]
    best = whole_episodes(best_trajectories(dataset, 0.1)).trajectory_returns()
    return [
        f"the best {len(best):,} of {len(ranked):,} episodes have returns of about {best.mean():.4g}, all of "
        f"about {mean:.4g}: --method=bc10 clones these alone, a score to beat"
    ]
