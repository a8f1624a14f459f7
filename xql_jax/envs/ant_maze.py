"""D4RL's antmaze: a four-legged robot has to walk through a maze to a goal that it does not see."""

import math
from pathlib import Path

import gymnasium
import mujoco
import numpy as np

from xql_jax.envs.mazes import GOAL_RADIUS, MAZES, Cell, Maze
from xql_jax.envs.simulated import ActResult, SimulatedEnv, View
from xql_jax.suites.tasks import Task

ANT = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "ant.xml"
CELL_SIZE = 4.0  # metres
WALL_HEIGHT = 2.0
START_CELL: Cell = (1, 1)
GOAL_CELLS: dict[str, Cell] = {"umaze": (3, 1), "medium": (6, 6), "large": (7, 9)}  # umaze's is not maze2d's
TIMESTEP, FRAME_SKIP = 0.02, 5
START_NOISE = 0.1  # scale of a start's deviations from the model's rest pose
MAX_TORQUE = 30.0  # newton metres
CONTACT_IMPEDANCE = (0.8, 0.8, 0.01, 0.5, 2.0)  # MuJoCo's `solimp`: softer than its default
GOAL_SEED = 0


class Ant(SimulatedEnv):
    """Base class of the ant's tasks in a maze; starts and steps are Gymnasium's MujocoEnv's."""

    def __init__(self, maze: Maze, *, episode_limit: int, view: View):
        self.model = model = ant_maze_spec(maze).compile()
        self.data = mujoco.MjData(model)
        rate = 1 / (FRAME_SKIP * TIMESTEP)
        super().__init__(
            len(self.observe()), model.nu, episode_limit=episode_limit, steps_per_second=rate, view=view
        )

    def observe(self) -> np.ndarray:
        return np.concatenate((self.data.qpos, self.data.qvel), dtype=np.float32)

    def start(self, seed: int | None) -> np.ndarray:
        """Starts near the model's rest pose, determined by `seed`."""
        return self.set_state(*self.random_start())

    def random_start(self) -> tuple[np.ndarray, np.ndarray]:
        """Draws positions and velocities, in Gym's order, so that a generator gives the same numbers."""
        rng, model = self.np_random, self.model
        position = model.qpos0 + rng.uniform(-START_NOISE, START_NOISE, model.nq)
        return position, START_NOISE * rng.standard_normal(model.nv)

    def set_state(self, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Begins an episode at these positions [nq] and velocities [nv]; returns the observation."""
        mujoco.mj_resetData(self.model, self.data)  # also resets the solver's warm start
        self.data.qpos[:] = position
        self.data.qvel[:] = velocity
        # Until MuJoCo 3.2.0 `mj_forward` did this itself; since then, only the first step does.
        mujoco.mj_normalizeQuat(self.model, self.data.qpos)
        mujoco.mj_forward(self.model, self.data)  # not needed by steps, but by the camera: the centre of mass
        self._steps = 0
        return self.observe()

    def advance(self, action: np.ndarray) -> None:
        """Moves by one step. The model's control range clips the action."""
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, FRAME_SKIP)


class AntMaze(Ant):
    """An ant of 0.9 kg with eight motors of 30 N m in a maze with cells of 4 m, 10 steps per second.

    Observations f32[29]: position x, y, z of the torso, its quaternion and 8 joint angles, then the 14
    velocities. Actions [8] in [-1, 1]. The ant starts near the origin, the middle of the cell (1, 1); x grows
    with the column and y with the row. The reward of a step is 1 if it ends within 0.5 of the goal, which
    terminates the episode as a success, and otherwise 0. An ant on its back does not end the episode.

    Source: D4RL's ant.py and maze_env.py, rebuilt on today's MuJoCo. Differs: in v0 and v1 D4RL draws the
    goal once per process; here it is the same in every process.
    """

    def __init__(self, task: Task):
        name = task.name.split("-")[1]
        maze, self.goal_cell = MAZES[name], GOAL_CELLS[name]
        rows, columns = maze.walls.shape
        last = cell_middle((rows - 1, columns - 1))
        super().__init__(
            maze,
            episode_limit=task.longest,
            view={
                "lookat": [*(cell_middle((0, 0)) + last) / 2, 0.0],
                # Half of the outer walls are seen.
                "distance": 1.21 * CELL_SIZE * max(rows - 1, 0.75 * (columns - 1)),
                "elevation": -90.0,
            },
        )
        self._redraws_goal = task.name.endswith("-v2")  # at each reset; else it stays
        self.goal = draw_goal(self.goal_cell, np.random.default_rng(GOAL_SEED))

    def start(self, seed: int | None) -> np.ndarray:
        if self._redraws_goal:
            self.goal = draw_goal(self.goal_cell, self.np_random)
        return super().start(seed)

    def act(self, action: np.ndarray) -> ActResult:
        self.advance(action)
        reached = math.dist(self.data.qpos[:2].tolist(), self.goal.tolist()) <= GOAL_RADIUS
        return self.observe(), float(reached), reached, {"success": reached}

    def render(self) -> np.ndarray:
        """Returns the maze seen from above, u8[height, width, 3]; rows grow upwards, the goal is green."""
        self.model.site("goal").pos[:2] = self.goal
        return super().render()


def cell_middle(cell: Cell) -> np.ndarray:
    """Returns f64[2], x and y of the middle of a cell; the start's is the origin."""
    row, column = cell
    return CELL_SIZE * np.array([column - START_CELL[1], row - START_CELL[0]])


def draw_goal(cell: Cell, rng: np.random.Generator) -> np.ndarray:
    """Draws a goal f64[2] as D4RL does: up to 1.5 beyond the cell's middle in x and in y, never before it."""
    return cell_middle(cell) + rng.uniform(0.0, 1.0, 2) + rng.uniform(0.0, 0.5, 2)


def ant_maze_spec(maze: Maze) -> mujoco.MjSpec:
    """Puts Gymnasium's ant, with D4RL's changes, into the maze."""
    spec = mujoco.MjSpec.from_file(str(ANT))
    spec.option.timestep = TIMESTEP
    for motor in spec.actuators:
        motor.gear[0] = MAX_TORQUE
    for row, column in np.argwhere(maze.walls).tolist():
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[*cell_middle((row, column)), WALL_HEIGHT / 2],
            size=[CELL_SIZE / 2, CELL_SIZE / 2, WALL_HEIGHT / 2],
            conaffinity=1,
            rgba=[0.7, 0.5, 0.3, 1.0],
        )
    for geom in spec.geoms:
        geom.solimp[:] = CONTACT_IMPEDANCE
    # The rest is for pictures. MuJoCo assumes that a site at its body's exact origin always stays there.
    spec.worldbody.add_site(name="goal", pos=[0, 0, 0.01], size=[GOAL_RADIUS] * 3, rgba=[0.2, 0.9, 0.3, 1])
    floor = spec.texture("texplane")
    floor.rgb1, floor.rgb2 = [0.2, 0.3, 0.4], [0.1, 0.2, 0.3]
    spec.material("MatPlane").reflectance = 0.0
    return spec
