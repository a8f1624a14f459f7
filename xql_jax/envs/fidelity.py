"""What of each task equals D4RL's, what differs, and what nobody has compared: the one place that says so.

`python -m xql_jax.envs.fidelity` prints it as the generated part of docs/tasks.md.
"""

import dataclasses
import fnmatch
from typing import Any

from xql_jax.tasks import TASKS, Task


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """How near a task's environment is to D4RL's. Returns are means over episodes ± their standard errors."""

    equal: str
    differs: str
    unknown: str


@dataclasses.dataclass(frozen=True)
class Family:
    """Tasks that share an environment but for its limit or its maze."""

    title: str
    patterns: tuple[
        str, ...
    ]  # of the names; the tasks of a pattern share limit and reference returns as well
    observation: str  # its size first
    action_dim: int  # each in [-1, 1]
    termination: str
    reward: str
    fidelity: Fidelity


def fidelity(task: Task) -> Fidelity:
    """Returns what is known of the task's environment."""
    return family(task).fidelity


def describe_environment(task: Task, backend: str, legacy_inertia: bool) -> dict[str, Any]:
    """Returns for a report in what environment scores were earned, and how near to D4RL's it is."""
    chosen = {"backend": backend, "legacy_inertia": legacy_inertia}
    if backend == "d4rl" or task.name not in TASKS:  # a task without a dataset is simulated by its own suite
        return chosen
    return chosen | dataclasses.asdict(fidelity(task))


def family(task: Task) -> Family:
    """Returns the task's family."""
    return next(
        family
        for family in FAMILIES
        if any(fnmatch.fnmatchcase(task.name, pattern) for pattern in family.patterns)
    )


def markdown() -> str:
    """Returns the generated part of docs/tasks.md: a table of the environments, and what is known of them."""
    lines = [
        "| tasks | observation | actions | steps | terminates | reward of a step | return at 0 | at 100 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    sections: dict[Fidelity, list[str]] = {}
    for each in FAMILIES:
        sections.setdefault(each.fidelity, []).append(each.title)
        for pattern in each.patterns:
            task = next(task for task in TASKS.values() if fnmatch.fnmatchcase(task.name, pattern))
            cells = (
                f"`{pattern}`",
                each.observation,
                each.action_dim,
                task.episode_limit,
                each.termination,
                each.reward,
                f"{task.min_return:.2f}",
                f"{task.max_return:.2f}",
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    for known, titles in sections.items():
        lines += ["", f"### {', '.join(titles)}", ""]
        lines += [f"- **{name.capitalize()}.** {text}" for name, text in dataclasses.asdict(known).items()]
    return "\n".join(lines) + "\n"


_SPARSE = "1 within 0.5 of the goal, else 0"


def _locomotion(
    robot: str, observation: str, action_dim: int, termination: str, reward: str, *, masses: str, returns: str
) -> Family:
    known = Fidelity(
        equal="Bodies, observations, starts, rewards, ends and limit are those of Gym's v2 robots, in "
        "their v4 form in Gymnasium, which ours equal bit for bit.",
        differs="Simulated by today's MuJoCo, not by 2.0; before version 2.1.2 capsules were lighter: "
        f"{masses}. `--legacy_inertia` gives the old masses and inertias.",
        unknown="How a policy trained in the old simulator scores in this one. A random policy gets "
        f"{returns}.",
    )
    return Family(robot, (f"{robot}-*",), observation, action_dim, termination, reward, known)


def _ant_maze(version: str, title: str, *, goal: str) -> Family:
    patterns = tuple(f"antmaze-{maze}-{version}" for maze in ("umaze*", "medium-*", "large-*"))
    observation = "29: positions (x and y first), velocities"
    known = Fidelity(
        equal="Walls, robot, torques, starts, reward, ends and limit. D4RL's own classes and XML, run by the "
        "same MuJoCo (3.8) from the same seed, give the same 300 random steps in each maze, bit for bit.",
        differs=f"{goal} Simulated by today's MuJoCo, where the ant weighs 0.911 kg; in D4RL's it weighs "
        "0.879 kg, as here with `--legacy_inertia`.",
        unknown="How contacts differ between MuJoCo 2.0 and today's, and so how a policy trained there "
        "scores here.",
    )
    return Family(title, patterns, observation, 8, "goal reached", _SPARSE, known)


def _adroit(
    robot: str, observation: str, action_dim: int, termination: str, reward: str, *, returns: str
) -> Family:
    known = Fidelity(
        equal="Bodies, starts, observations, rewards, ends, limit and success. D4RL's own class and XML, "
        "run by the same MuJoCo (3.8) from the same seed, give the same episodes but for rounding.",
        differs="Simulated by today's MuJoCo, not by 2.0. Gymnasium-Robotics' environment, which is used, "
        "is corrected where it differs from D4RL's: the palm's distance is a cost, a dropped pen ends the "
        "episode.",
        unknown="How a policy trained on D4RL's data scored in the old simulator and scores here. A random "
        f"policy gets {returns}.",
    )
    return Family(robot, (f"{robot}-*",), observation, action_dim, termination, reward, known)


_MAZE2D = Fidelity(
    equal="Walls, ball, motors, starts, goal, reward and limit are D4RL's, as its source has them.",
    differs="Simulated by today's MuJoCo, not by 2.0.",
    unknown="Over how many episodes the reference returns were taken. A random policy gets 28.0 ± 1.3 in "
    "umaze, 18.8 ± 1.3 in medium and 11.0 ± 1.0 in large, 71.2 ± 1.2 in umaze-dense (2000 episodes), where "
    "D4RL has 23.9, 13.1, 6.7 and 68.5.",
)
_POINT_MAZE = Fidelity(
    equal="The environment, its limit and its reference returns are those of maze2d.",
    differs="It is not one of D4RL's tasks: its data, 200,000 steps, is generated where it is needed by a "
    "controller that follows D4RL's.",
    unknown="How scores on this data relate to scores on D4RL's.",
)
_BULLET = Fidelity(
    equal="Everything: `--env_backend=d4rl` runs D4RL's own environments on PyBullet. A random policy gets "
    "19.7 ± 0.2 with hopper and 16.8 ± 0.2 with walker2d (200 episodes), 394 ± 38 with ant and −1317 ± 24 "
    "with halfcheetah (20), 54 ± 11 in maze2d-umaze (100); D4RL has 20.1, 16.5, 374, −1276 and 32.5.",
    differs="Each environment is reset once before its first episode, whose first reward PyBullet would "
    "else compute otherwise than those of all others.",
    unknown="With which version of PyBullet the data was made.",
)


def _bullet(robot: str, observation_dim: int, action_dim: int, termination: str) -> Family:
    reward = "progress ± 1 for being upright, costs of torques and of joints at their limits"
    observation = f"{observation_dim}: height, heading, velocity, lean, joints, feet that touch the ground"
    return Family(
        f"bullet-{robot}", (f"bullet-{robot}-*",), observation, action_dim, termination, reward, _BULLET
    )


FAMILIES = (
    _locomotion(
        "halfcheetah",
        "17: positions but x, velocities",
        6,
        "never",
        "speed − 0.1 · Σ action²",
        masses="halfcheetah's total is 14 kg in both, but otherwise distributed",
        returns="−284.5 ± 2.6 (old masses: −281.4 ± 2.5) over 1000 episodes, where D4RL has −280.2",
    ),
    _locomotion(
        "hopper",
        "11: positions but x, velocities within ±10",
        3,
        "height ≤ 0.7, lean ≥ 0.2 rad, or any other state ≥ 100",
        "speed + 1 − 0.001 · Σ action²",
        masses="hopper weighs 15.8 kg here, 15.3 kg there",
        returns="18.3 ± 0.2 (old masses: 18.1 ± 0.2) over 10,000 episodes; why D4RL has −20.3 is not known",
    ),
    _locomotion(
        "walker2d",
        "17: positions but x, velocities within ±10",
        6,
        "height outside 0.8 to 2, or lean ≥ 1 rad",
        "speed + 1 − 0.001 · Σ action²",
        masses="walker2d weighs 23.7 kg here, 22.7 kg there",
        returns="2.69 ± 0.06 over 10,000 episodes, with the old masses 1.73 ± 0.06, where D4RL has 1.63",
    ),
    _ant_maze(
        "v[01]",
        "antmaze, v0 and v1",
        goal="The goal, which D4RL draws once in a process, is here the same draw in every process.",
    ),
    _ant_maze(
        "v2",
        "antmaze, v2",
        goal="An episode's goal comes from its seed, in D4RL from numpy's global generator.",
    ),
    Family(
        "kitchen",
        ("kitchen-*",),
        "60: positions of 9 joints and 21 of objects, the goal's 30",
        9,
        "all four tasks done",
        "number of tasks newly done",
        Fidelity(
            equal="Bodies, starts, tasks, noise of the observations, commands and limit. D4RL's 19 "
            "demonstrations, with their own observed joint positions fed back, do 4 of 4 tasks in 19 of 19 "
            "episodes.",
            differs="Tasks are judged by true positions, in D4RL by noisy ones (noise ≤ 0.02, threshold "
            "0.3), and the robot's pedestal can be touched. Rewards in D4RL's data are on another scale: "
            "the number of tasks satisfied, in every step.",
            unknown="How a policy trained on D4RL's data scored in the old simulator and scores here. A "
            "random policy, which now and then pushes the kettle home, gets 0.05 ± 0.02 over 100 episodes; "
            "D4RL sets 0.",
        ),
    ),
    _adroit(
        "pen",
        "45: 24 joints, pen's position, velocity and direction, goal's direction, differences",
        24,
        "pen below 0.075",
        "alignment − distance; +10, then +60 when aligned, −5 when dropped",
        returns="66 ± 7 over 1000 episodes (93 ± 26 over their first 100), where D4RL has 96",
    ),
    _adroit(
        "door",
        "39: 27 joints, latch, hinge, palm, handle, palm − handle, open or not",
        28,
        "never",
        "−0.1 · distance of palm and handle, costs of hinge and speed; up to +20 as it opens",
        returns="−56.58 ± 0.03 over 1000 episodes, where D4RL has −56.51",
    ),
    _adroit(
        "hammer",
        "46: 27 joints, 6 velocities, palm, hammer's position and angles, nail, force",
        26,
        "never",
        "−0.1 · distance of palm and hammer, costs of head to nail, depth and speed; up to +102 when done",
        returns="−274.9 ± 0.2 over 1000 episodes, where D4RL has −274.9",
    ),
    _adroit(
        "relocate",
        "39: 30 joints, palm − ball, palm − goal, ball − goal",
        30,
        "never",
        "−0.1 · distance of palm and ball; when lifted +1 − distances to the goal; up to +30 near it",
        returns="−6.2 ± 0.2 over 1000 episodes, where D4RL has −6.4",
    ),
    Family(
        "maze2d",
        ("maze2d-umaze-v1", "maze2d-medium-v1", "maze2d-large-v1"),
        "4: position, velocity",
        2,
        "never",
        _SPARSE,
        _MAZE2D,
    ),
    Family(
        "maze2d-dense",
        ("maze2d-umaze-dense-v1", "maze2d-medium-dense-v1", "maze2d-large-dense-v1"),
        "4: position, velocity",
        2,
        "never",
        "exp(−distance to the goal)",
        _MAZE2D,
    ),
    Family(
        "pointmaze",
        ("pointmaze-umaze-v0", "pointmaze-medium-v0", "pointmaze-large-v0"),
        "4: position, velocity",
        2,
        "never",
        _SPARSE,
        _POINT_MAZE,
    ),
    _bullet("halfcheetah", 26, 6, "never"),
    _bullet("hopper", 15, 3, "fallen"),
    _bullet("walker2d", 22, 6, "fallen"),
    _bullet("ant", 28, 8, "fallen"),
    Family(
        "bullet-maze2d",
        tuple(f"bullet-maze2d-{maze}-v0" for maze in ("open", "umaze", "medium", "large")),
        "4: position, velocity",
        2,
        "never",
        _SPARSE,
        _BULLET,
    ),
)


if __name__ == "__main__":
    print(markdown(), end="")
