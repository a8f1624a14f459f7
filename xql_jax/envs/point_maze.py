"""D4RL's maze2d: a point mass is pushed through a maze to a fixed goal. `pointmaze-*` is the same task."""

import math

import mujoco
import numpy as np

from xql_jax.envs.mazes import GOAL_RADIUS, Maze, maze_of
from xql_jax.envs.simulated import ActResult, SimulatedEnv
from xql_jax.suites.tasks import Task

MAX_SPEED = 5.0  # per axis; D4RL clips the velocity before each step
BODY_POSITION = 1.2  # in x and y, of the ball when its joints' positions are 0
RESET_NOISE = 0.1  # half-range of a start about a cell's integer position, and scale of its velocity


class PointMaze(SimulatedEnv):
    """A ball of 4.19 kg in a maze without gravity, pushed by two motors of up to 100 N, 100 steps per second.

    Observations f32[4]: position x, y and velocity. Actions [2] in [-1, 1]. The goal is the maze's goal cell.
    The reward of a step depends on the position *after* it: 1 within 0.5 of the goal, else 0; or
    exp(-distance) if `dense`. (D4RL's datasets hold the reward of the position *before* it.) An episode never
    terminates. It succeeds once it has been within 0.5 of the goal.

    Source: the dynamics and rules of D4RL's maze_model.py, rebuilt on today's MuJoCo. Scores above 100 are no
    mistake: the controller behind D4RL's reference return plans only once.
    """

    def __init__(self, task: Task):
        self.maze = maze = maze_of(task.name)
        self.model = point_mass_model(maze)
        self.data = mujoco.MjData(self.model)
        rows, columns = maze.walls.shape
        view = {  # from above; rows grow downwards as in the maze
            "lookat": ((rows + 1) / 2, (columns + 1) / 2, 0.0),
            "distance": 1.3 * max(rows, columns),
            "azimuth": 180.0,
            "elevation": -90.0,
        }
        super().__init__(4, 2, episode_limit=task.longest, steps_per_second=100.0, view=view)
        self._goal = tuple(map(float, maze.goal))
        self._dense = "-dense" in task.name

    def start(self, seed: int | None) -> np.ndarray:
        """Starts at any free cell, the goal's included, ±0.1, with a velocity of 0.1 N(0, 1), by `seed`."""
        return self.set_state(*random_start(self.maze, self.np_random))

    def set_state(self, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Begins an episode at this position [2] and velocity [2]; returns the observation f32[4]."""
        mujoco.mj_resetData(self.model, self.data)  # also resets the solver's warm start
        self.data.qpos[:] = position
        self.data.qvel[:] = velocity
        self._steps, self._success = 0, False
        return self._observation()

    def act(self, action: np.ndarray) -> ActResult:
        push(self.model, self.data, action)
        distance = math.dist(self.data.qpos.tolist(), self._goal)
        reward = math.exp(-distance) if self._dense else float(distance <= GOAL_RADIUS)
        self._success |= distance <= GOAL_RADIUS
        return self._observation(), reward, False, {"success": self._success}

    def _observation(self) -> np.ndarray:
        return np.concatenate((self.data.qpos, self.data.qvel), dtype=np.float32)


def push(model: mujoco.MjModel, data: mujoco.MjData, action: np.ndarray | tuple[float, float]) -> None:
    """Does one step of D4RL's dynamics; the model's control range clips the action [2] to [-1, 1]."""
    vx, vy = data.qvel.tolist()
    if abs(vx) > MAX_SPEED or abs(vy) > MAX_SPEED:
        np.clip(data.qvel, -MAX_SPEED, MAX_SPEED, out=data.qvel)
    data.ctrl[:] = action
    mujoco.mj_step(model, data)


def random_start(maze: Maze, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws a start as D4RL does: position and velocity, f64[2] each."""
    return random_target(maze, rng), RESET_NOISE * rng.standard_normal(2)


def random_target(maze: Maze, rng: np.random.Generator) -> np.ndarray:
    """Draws f64[2], within ±0.1 of a free cell's integer position; all free cells are equally likely."""
    return maze.free_cells[rng.integers(len(maze.free_cells))] + rng.uniform(-RESET_NOISE, RESET_NOISE, 2)


def point_mass_model(maze: Maze) -> mujoco.MjModel:
    """Compiles the maze with D4RL's masses, contacts and motors.

    D4RL's ground plane is left out, on which the ball would move without friction.
    """
    walls = "\n".join(
        f'<geom type="box" size="0.5 0.5 0.2" pos="{r + 1} {c + 1} 0"/>' for r, c in np.argwhere(maze.walls)
    )
    goal_x, goal_y = np.array(maze.goal) + BODY_POSITION
    return mujoco.MjModel.from_xml_string(f"""
        <mujoco>
          <option timestep="0.01" gravity="0 0 0" iterations="20" integrator="Euler"/>
          <default>
            <joint type="slide" damping="1"/>
            <geom density="1000" margin="0.002" condim="1" contype="2" conaffinity="1"
                  rgba="0.75 0.75 0.8 1"/>
            <motor ctrllimited="true" ctrlrange="-1 1" gear="100"/>
          </default>
          <worldbody>
            {walls}
            <body pos="{BODY_POSITION} {BODY_POSITION} 0">
              <joint name="x" axis="1 0 0"/>
              <joint name="y" axis="0 1 0"/>
              <geom type="sphere" size="0.1" contype="1" rgba="1 0.4 0.2 1"/>
            </body>
            <site pos="{goal_x} {goal_y} 0" size="0.15" rgba="0.2 0.8 0.3 1"/>
          </worldbody>
          <actuator>
            <motor joint="x"/>
            <motor joint="y"/>
          </actuator>
        </mujoco>""")
