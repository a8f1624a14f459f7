"""D4RL's locomotion: halfcheetah, hopper and walker2d are to run as fast as they can."""

from collections.abc import Iterator

from xql_jax.suites.record import D4RL_PACKAGES, D4RL_SERVER, Suite, Task

QUALITIES = ("random", "medium", "expert", "medium-replay", "medium-expert")  # of the data
_RETURNS = {  # of a random policy and of an expert, from `d4rl.infos`
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
}


def _tasks() -> Iterator[Task]:
    for robot, returns in _RETURNS.items():
        for data in QUALITIES:
            stem = f"{robot}_{data.replace('-', '_')}"
            old_stem = stem.replace("medium_replay", "mixed").replace("walker2d_mixed", "walker_mixed")
            files = [f"gym_mujoco/{old_stem}", *(f"gym_mujoco_v{v}/{stem}-v{v}" for v in (1, 2))]
            for version, file in enumerate(files):
                name = f"{robot}-{data}-v{version}"
                yield Task(name, SUITE, f"{D4RL_SERVER}/{file}.hdf5", *returns, episode_limit=1000)


SUITE = Suite(
    "locomotion",
    config="mujoco",
    tasks=_tasks,
    environment="xql_jax.envs.locomotion:Locomotion",
    packages=("mujoco", "gymnasium"),
    # Ten environments per call: two threads gain a third in hopper and walker2d, and lose 6% in halfcheetah.
    max_threads=2,
    has_legacy_inertia=True,
    d4rl_packages=D4RL_PACKAGES,
    scales_rewards=True,
)
