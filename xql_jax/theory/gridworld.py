"""A maze of cells as a tabular soft MDP, like the maze of Figure 4 (Garg et al. 2023, Appendix D.1)."""

import numpy as np

from xql_jax.envs.mazes import MOVES, Cell, Maze
from xql_jax.theory.soft_mdp import SoftMDP

# Not the authors' maze, because no text describes it. The way from the lower to the upper left is long.
FIGURE_4 = Maze(
    (
        "#########",
        "#GOOOOOO#",
        "#######O#",
        "#OOOOOOO#",
        "#O#######",
        "#OOOOOOO#",
        "#######O#",
        "#SOOOOOO#",
        "#########",
    )
)


def gridworld(maze: Maze, *, discount: float = 0.95, beta: float = 0.1) -> SoftMDP:
    """Builds the MDP in which the states are the maze's free cells, in the order of `maze.free_cells`.

    Its four actions are `MOVES`. A move into a wall stays in place. A move that enters the goal pays 1, and
    all others pay nothing. The goal is absorbing, so its value is 0. mu is uniform.
    """
    cells = [tuple(cell) for cell in maze.free_cells.tolist()]
    number = {cell: state for state, cell in enumerate(cells)}
    goal = number[maze.goal]
    destinations = np.array(
        [[number.get((r + dr, c + dc), number[r, c]) for dr, dc in MOVES] for r, c in cells], np.int32
    )
    destinations[goal] = goal
    enters_goal = destinations == goal
    enters_goal[goal] = False

    return SoftMDP(
        next_states=destinations[..., None],
        probabilities=np.ones((*destinations.shape, 1)),
        rewards=enters_goal.astype(np.float64),
        behavior=np.full(destinations.shape, 1.0 / len(MOVES)),
        discount=discount,
        beta=beta,
    )


def greedy_path(maze: Maze, q: np.ndarray, start: Cell) -> list[Cell]:
    """Returns the cells that the best actions of Q, f64[S, A], lead through from `start`, a free cell.

    The path ends at the goal, or before a move into a wall or into a cell already visited. Among equally good
    actions the first is taken.
    """
    cells = [tuple(cell) for cell in maze.free_cells.tolist()]
    best = dict(zip(cells, np.argmax(q, axis=-1), strict=True))
    path = [start]
    while path[-1] != maze.goal:
        r, c = path[-1]
        dr, dc = MOVES[best[r, c]]
        cell = (r + dr, c + dc)
        if cell not in best or cell in path:
            return path
        path.append(cell)
    return path
