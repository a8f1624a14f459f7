"""D4RL's Adroit: a hand is to turn a pen, open a door, hammer in a nail, or move a ball."""

from collections.abc import Iterator

from xql_jax.suites.record import D4RL_PACKAGES, D4RL_SERVER, Suite, Task

_RULES = {  # returns of a random policy and of an expert, from `d4rl.infos`; steps of an episode
    "pen": (96.262799, 3076.8331017826877, 100),
    "door": (-56.512833, 2880.5693087298737, 200),
    "hammer": (-274.856578, 12794.134825156867, 200),
    "relocate": (-6.425911, 4233.877797728884, 200),
}
_OLD_FILES = {
    "human": "{}-v0_demos_clipped",
    "cloned": "{}-demos-v0-bc-combined",
    "expert": "{}-v0_expert_clipped",
}


def _tasks() -> Iterator[Task]:
    for robot, rules in _RULES.items():
        for data, old_file in _OLD_FILES.items():
            files = [f"hand_dapg/{old_file.format(robot)}", f"hand_dapg_v1/{robot}-{data}-v1"]
            for version, file in enumerate(files):
                yield Task(f"{robot}-{data}-v{version}", SUITE, f"{D4RL_SERVER}/{file}.hdf5", *rules)


SUITE = Suite(
    "adroit",
    config="adroit",
    tasks=_tasks,
    environment="xql_jax.envs.robotics:Adroit",
    packages=("mujoco", "gymnasium-robotics"),
    max_threads=4,  # two threads on two cores make 1.5 times as many steps as one
    d4rl_packages=D4RL_PACKAGES,
    success="the goal was met in more steps than D4RL asks for; the score is of the summed rewards",
)
