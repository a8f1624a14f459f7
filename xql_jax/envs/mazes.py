"""D4RL's three mazes: walls, goals and shortest paths, in D4RL's coordinates.

The first coordinate x grows with the row and y with the column. D4RL shifts the walls against the point mass,
so that the free cell (r, c) spans [r - 0.7, r + 0.3] x [c - 0.7, c + 0.3] in positions: integers, at which
starts, goals and waypoints lie, are not cell centres.
"""

import collections
import dataclasses
import functools

import numpy as np

Cell = tuple[int, int]  # row, column

# D4RL's planner takes the first of equally good moves, in its order up, down, left, right, of which its
# grid's "up" lowers the column.
MOVES: tuple[Cell, ...] = ((0, -1), (0, 1), (-1, 0), (1, 0))


@dataclasses.dataclass(frozen=True)
class Maze:
    """A maze as D4RL draws it: one string a row, `#` a wall, `G` the goal cell, anything else free."""

    rows: tuple[str, ...]

    @functools.cached_property
    def walls(self) -> np.ndarray:
        """bool[R, C], true where there is a wall."""
        return np.array([[tile == "#" for tile in row] for row in self.rows])

    @functools.cached_property
    def goal(self) -> Cell:
        """The cell at whose integer position the evaluation goal lies."""
        return next((r, row.index("G")) for r, row in enumerate(self.rows) if "G" in row)

    @functools.cached_property
    def free_cells(self) -> np.ndarray:
        """i64[N, 2], the cells without a wall, the goal among them, row by row."""
        return np.argwhere(~self.walls)

    def shortest_path(self, start: Cell, target: Cell) -> list[Cell]:
        """Returns the cells from `start` (not included) to `target` (included).

        The same path as the greedy one of D4RL's tabular Q-iteration (reward 1 at the target, discount 0.99):
        there a value is a power of the discount in the distance, and ties go to the first move, as here. A
        path from a cell to itself is that cell.

        Raises:
            ValueError: if there is no path.
        """
        distances = self._distances(target)
        if np.isinf(distances[start]):
            raise ValueError(f"no path from cell {start} to cell {target}")
        path = [start]
        while path[-1] != target:
            r, c = path[-1]
            path.append(min(((r + dr, c + dc) for dr, dc in MOVES), key=lambda cell: distances[cell]))
        return path[1:] or [target]

    @functools.cache  # noqa: B019  (a handful of mazes live as long as the program)
    def _distances(self, target: Cell) -> np.ndarray:
        """f64[R, C], moves to the target; inf in walls and where the target is out of reach."""
        distances = np.full(self.walls.shape, np.inf)
        if self.walls[target]:
            return distances
        distances[target] = 0.0
        queue = collections.deque([target])
        while queue:
            r, c = queue.popleft()
            for dr, dc in MOVES:
                cell = r + dr, c + dc
                if not self.walls[cell] and np.isinf(distances[cell]):
                    distances[cell] = distances[r, c] + 1.0
                    queue.append(cell)
        return distances


MAZES = {
    "umaze": Maze(("#####", "#GOO#", "###O#", "#OOO#", "#####")),
    "medium": Maze(
        (
            "########",
            "#OO##OO#",
            "#OO#OOO#",
            "##OOO###",
            "#OO#OOO#",
            "#O#OO#O#",
            "#OOO#OG#",
            "########",
        )
    ),
    "large": Maze(
        (
            "############",
            "#OOOO#OOOOO#",
            "#O##O#O#O#O#",
            "#OOOOOO#OOO#",
            "#O####O###O#",
            "#OO#O#OOOOO#",
            "##O#O#O#O###",
            "#OO#OOO#OGO#",
            "############",
        )
    ),
}


def maze_of(task_name: str) -> Maze:
    """Returns the maze that a task is named after: `maze2d-large-dense-v1` plays in "large"."""
    return MAZES[task_name.split("-")[1]]
