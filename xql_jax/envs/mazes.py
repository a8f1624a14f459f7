"""D4RL's three mazes: walls, goals and shortest paths, in D4RL's coordinates.

The first coordinate x grows with the row and y with the column. D4RL shifts the walls relative to the point
mass: the free cell (r, c) spans [r - 0.7, r + 0.3] x [c - 0.7, c + 0.3] in positions. Starts, goals and
waypoints lie at integer positions, which are therefore not the cells' centres.
"""

import dataclasses
import functools

import numpy as np

Cell = tuple[int, int]  # row, column
GOAL_RADIUS = 0.5

# D4RL's planner takes the first of equally good moves, in its order up, down, left, right. "Up" in its grid
# lowers the column.
MOVES: tuple[Cell, ...] = ((0, -1), (0, 1), (-1, 0), (1, 0))


@dataclasses.dataclass(frozen=True)
class Maze:
    """A maze as D4RL draws it: one string per row, `#` a wall, `G` the goal cell, anything else free."""

    rows: tuple[str, ...]

    @functools.cached_property
    def walls(self) -> np.ndarray:
        """Returns bool[R, C], true in walls."""
        return np.array([[tile == "#" for tile in row] for row in self.rows])

    @functools.cached_property
    def goal(self) -> Cell:
        """The cell at whose integer position the evaluation goal lies."""
        return next((r, row.index("G")) for r, row in enumerate(self.rows) if "G" in row)

    @functools.cached_property
    def free_cells(self) -> np.ndarray:
        """Returns i64[N, 2], the cells without a wall, including the goal, row by row."""
        return np.argwhere(~self.walls)

    def shortest_path(self, start: Cell, target: Cell) -> list[Cell]:
        """Returns the cells from `start` (not included) to `target` (included); ValueError if there is none.

        It is the greedy path of D4RL's tabular Q-iteration, where ties go to the first move, as here. A path
        from a cell to itself is that cell.
        """
        distances = self.distances(target)
        if np.isinf(distances[start]):
            raise ValueError(f"no path from cell {start} to cell {target}")
        path = [start]
        while path[-1] != target:
            r, c = path[-1]
            path.append(min(((r + dr, c + dc) for dr, dc in MOVES), key=lambda cell: distances[cell]))
        return path[1:] or [target]

    @functools.cache  # noqa: B019  (a handful of mazes live as long as the program)
    def distances(self, target: Cell) -> np.ndarray:
        """Returns f64[R, C], moves to the target; inf in walls and where the target is out of reach."""
        distances = np.full(self.walls.shape, np.inf)
        distances[target] = np.inf if self.walls[target] else 0.0
        for _ in range(distances.size):  # no path is longer; the outer walls keep `roll` inside
            nearest = np.min([np.roll(distances, move, axis=(0, 1)) for move in MOVES], axis=0)
            distances = np.where(self.walls, np.inf, np.minimum(distances, nearest + 1.0))
        return distances


_MEDIUM = """
########
#OO##OO#
#OO#OOO#
##OOO###
#OO#OOO#
#O#OO#O#
#OOO#OG#
########
"""
_LARGE = """
############
#OOOO#OOOOO#
#O##O#O#O#O#
#OOOOOO#OOO#
#O####O###O#
#OO#O#OOOOO#
##O#O#O#O###
#OO#OOO#OGO#
############
"""
_UMAZE = "##### #GOO# ###O# #OOO# #####"
_DRAWN = {"umaze": _UMAZE, "medium": _MEDIUM, "large": _LARGE}
MAZES = {name: Maze(tuple(drawn.split())) for name, drawn in _DRAWN.items()}


def maze_of(task_name: str) -> Maze:
    """Returns the maze in a task's name: "large" for `maze2d-large-dense-v1`."""
    return MAZES[task_name.split("-")[1]]
