"""OGBench's play, noisy and navigate sets, made on this machine with the scripted oracles of its wheel.

python examples/ogbench_data.py cube-single-play-singletask-v0 --transitions=300000

By default the file lies where the task's data are looked for. The same command makes the same numbers.

Source: OGBench, data_gen_scripts/generate_manipspace.py and generate_locomaze.py: which oracle, its noise,
the chance of stacking, new targets when one is reached, episodes of 1,001 steps, the layout of the file.
Differs: its files hold a million transitions or more, and its own draws; these hold as many as are asked for.
There is no file for validation. Sets of the ant and the humanoid need policies that the wheel lacks.
"""

import argparse
import contextlib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from xql_jax.data.loading import cached_file
from xql_jax.data.rows import Rows
from xql_jax.envs.ogbench import drawing_from, environment_of, make_simulation
from xql_jax.files import replacing
from xql_jax.suites.tasks import Task, get_task
from xql_jax.types import Json

EPISODE_ROWS = 1_001  # rows; the last one has no transition
NOISE, SMOOTHING = 0.1, 0.5  # of play's oracles; the first also bounds that of noisy ones
NOISY_SCALE = np.array([1.0, 1.0, 1.0, 3.0, 10.0])  # of the noise on x, y, z, yaw, gripper
MIN_NORM = 0.4  # of noisy oracles' actions
POINT_NOISE = 0.5
STACKING = {  # the range of an episode's chance that a cube's target is on another cube
    "single": (0.0, 0.0), "double": (0.0, 0.25), "triple": (0.05, 0.35), "quadruple": (0.1, 0.5),
}  # fmt: skip
PARTS = {"cube": ("cube",), "puzzle": ("button",), "scene": ("cube", "button", "drawer", "window")}


def generate_oracle(task: Task, transitions: int, seed: int, count: Callable[[int], object]) -> Rows:
    """Returns rows in OGBench's layout, of whole episodes, with at least that many transitions.

    They are `observations` f32[N, O], `actions` f32[N, A], `terminals` bool[N] (True: an episode's last row),
    and the simulator's `qpos` f32[N, Q], `qvel` f32[N, V], for buttons `button_states` i64[N, K]. `count` is
    called with the number of transitions of each episode. Raises ValueError if the wheel has no oracle.
    """
    name = environment_of(task).partition("-singletask")[0]
    kind = name.partition("-")[0]
    if kind not in PARTS and not (kind == "pointmaze" and "navigate" in task.name):
        raise ValueError(
            f"{task.name}: there are oracles for cube-*, scene-*, puzzle-*, pointmaze-*-navigate"
        )
    is_table = kind in PARTS
    options = {"mode": "data_collection"} if is_table else {}
    env = make_simulation(f"{name}-v0", terminate_at_goal=False, max_episode_steps=EPISODE_ROWS, **options)
    generator = np.random.default_rng(seed)
    episodes: list[Rows] = []
    with contextlib.closing(env), drawing_from(np.random.RandomState(seed)):
        env.reset(seed=seed)
        walk = _on_table(env, name, "noisy" in task.name, generator) if is_table else _in_maze(env, generator)
        while len(episodes) * (EPISODE_ROWS - 1) < transitions:
            rows = walk()
            if kind == "scene" and _is_lost(rows["qpos"]):
                continue
            episodes.append(rows)
            count(EPISODE_ROWS - 1)
    return {name: np.concatenate([rows[name] for rows in episodes]) for name in episodes[0]}


def _episode(env: Any, start: tuple[np.ndarray, Json], act: Callable[[np.ndarray, Json], np.ndarray]) -> Rows:
    """Returns the rows of one episode, until it is truncated, by actions act(observation, info)."""
    observation, info = start
    rows: dict[str, list[object]] = {}
    ended = False
    while not ended:
        action = np.clip(act(observation, info), -1.0, 1.0)
        after, _, terminated, ended, info = env.step(action)
        assert not terminated
        row = {"observations": observation, "actions": action, "terminals": ended}
        row |= {name: info.get(f"prev_{name}") for name in ("qpos", "qvel", "button_states")}
        for name, value in row.items():
            if value is not None:
                rows.setdefault(name, []).append(value)
        observation = after
    kinds = {"terminals": bool, "button_states": np.int64}
    return {name: np.array(values, kinds.get(name, np.float32)) for name, values in rows.items()}


def _on_table(env: Any, name: str, is_noisy: bool, generator: np.random.Generator) -> Callable[[], Rows]:
    """Returns what makes episodes in which oracles move cubes, press buttons, open drawers and windows."""
    kind, _, size = name.partition("-")
    form = "markov" if is_noisy else "plan"
    options: dict[str, float] = {"noise": NOISE, "noise_smoothing": SMOOTHING}
    if is_noisy:
        options = {"min_norm": MIN_NORM}
    if kind == "puzzle":
        options["gripper_always_closed"] = True
    oracles = {}
    for part in PARTS[kind]:
        module = importlib.import_module(f"ogbench.manipspace.oracles.{form}.{part}_{form}")
        make = getattr(module, f"{part.capitalize()}{form.capitalize()}Oracle")
        own = dict(options)
        if is_noisy and (kind, part) == ("scene", "cube"):
            own["max_step"] = 100
        oracles[part] = make(env=env, **own)

    def episode() -> Rows:
        start = env.reset()
        chance = generator.uniform(*STACKING.get(size, (0.5, 0.5)))
        level = is_noisy * generator.uniform(0.0, NOISE)
        oracle = oracles[start[1]["privileged/target_task"]]
        oracle.reset(*start)

        def act(observation: np.ndarray, info: Json) -> np.ndarray:
            nonlocal oracle
            if oracle.done:
                target = env.unwrapped.set_new_target(p_stack=chance)
                oracle = oracles[target[1]["privileged/target_task"]]
                oracle.reset(*target)
            noise = level * NOISY_SCALE * generator.standard_normal(len(NOISY_SCALE))
            return np.array(oracle.select_action(observation, info)) + noise

        return _episode(env, start, act)

    return episode


def _in_maze(env: Any, generator: np.random.Generator) -> Callable[[], Rows]:
    """Returns what makes episodes of a point that goes to random cells, one after the other."""
    maze = env.unwrapped
    free = [*np.argwhere(maze.maze_map == 0)]
    goals = [cell for cell in free if not _is_hallway(maze.maze_map, *cell)]

    def cell(cells: Sequence[np.ndarray]) -> tuple[int, ...]:
        return tuple(map(int, cells[int(generator.integers(len(cells)))]))

    def act(observation: np.ndarray, info: Json) -> np.ndarray:
        if info.get("success"):
            maze.set_goal(cell(goals))
        position = maze.get_xy()
        way = maze.get_oracle_subgoal(position, maze.cur_goal_xy)[0] - position
        return way / (np.linalg.norm(way) + 1e-6) + POINT_NOISE * generator.standard_normal(2)

    def episode() -> Rows:
        places = {"init_ij": cell(free), "goal_ij": cell(goals)}
        return _episode(env, env.reset(options={"task_info": places}), act)

    return episode


def _is_hallway(walls: np.ndarray, i: int, j: int) -> bool:
    """Whether a free cell has walls on two opposite sides and none on the others."""
    across, along = walls[[i - 1, i + 1], j], walls[i, [j - 1, j + 1]]
    return bool((not across.any() and along.all()) or (not along.any() and across.all()))


def _is_lost(positions: np.ndarray) -> bool:
    """Whether the scene's cube was out of sight: too far right, or too far left but not in the drawer."""
    y, z = positions[:, 15], positions[:, 16]
    return bool((y >= 0.29).any() or ((y <= -0.3) & ((z < 0.06) | (z > 0.08))).any())


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes OGBench's kind of data by its scripted oracles.")
    parser.add_argument("env_name", help="a singletask task, such as cube-single-play-singletask-v0")
    parser.add_argument("--transitions", type=int, required=True, help="at least so many, of whole episodes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="FILE.npz, which must not exist yet")
    given = parser.parse_args()
    task = get_task(given.env_name)
    output = given.output or cached_file(task)
    if output.suffix != ".npz" or output.exists():
        parser.error(f"{output}: give a file .npz that does not exist")
    with tqdm.tqdm(total=given.transitions, unit="transition", disable=None) as bar:
        rows = generate_oracle(task, given.transitions, given.seed, bar.update)
    command = f"ogbench_data.py {task.name} --transitions={given.transitions} --seed={given.seed}"
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as unfinished, unfinished.open("wb") as archive:
        np.savez_compressed(archive, **rows, made_by=np.array(command))


if __name__ == "__main__":
    main()
