"""The DeepMind Control Suite, for online learning."""

from collections.abc import Iterator

from xql_jax.suites.record import Suite, Task

# The tasks by domain. They are listed here because importing the suite takes a second.
_NAMES = """
acrobot swingup swingup_sparse
ball_in_cup catch
cartpole balance balance_sparse swingup swingup_sparse two_poles three_poles
cheetah run
dog stand walk trot run fetch
finger spin turn_easy turn_hard
fish upright swim
hopper stand hop
humanoid stand walk run run_pure_state
humanoid_CMU stand walk run
lqr lqr_2_1 lqr_6_2
manipulator bring_ball bring_peg insert_ball insert_peg
pendulum swingup
point_mass easy hard
quadruped walk run escape fetch
reacher easy hard
stacker stack_2 stack_4
swimmer swimmer6 swimmer15
walker stand walk run
"""
# A step's reward is at most 1: a score is a tenth of the return.
REFERENCES_AND_STEPS = (0.0, 1000.0, 1000)


def _tasks() -> Iterator[Task]:
    for domain, *names in map(str.split, _NAMES.strip().splitlines()):
        for name in names:
            yield Task(f"{domain}-{name}", SUITE, None, *REFERENCES_AND_STEPS)


SUITE = Suite(
    "dm_control",
    config="own",
    tasks=_tasks,
    environment="xql_jax.envs.dm_control:DMControl",
    packages=("mujoco", "dm_control"),
)
