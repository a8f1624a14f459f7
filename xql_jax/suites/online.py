"""The suites without data (Gymnasium's, DM Control's, users' own, in JAX); values of the online methods."""

import dataclasses
import re
from collections.abc import Iterator

from xql_jax.suites import RETURN_ITSELF, Suite, Task, Values
from xql_jax.suites.d4rl import IN_NATS, LOCOMOTION_VALUES

# Online methods, on all tasks: Table 5's values, and beta by task (Table 6). On other tasks X-SAC finds beta,
# and X-TD3 has the middle of those swept. Table 5's rates, widths, periods, buffer and updates per step are
# the methods' defaults. Values that it does not print are from the authors' code. SAC has the value network
# of the paper's baseline; `--nouses_value_network` removes it. `small` is for a laptop's CPU; TD3's networks
# are small already.
ONLINE_VALUES = Values(
    rows={
        "sac xsac": {"batch_size": 1024, "warmup_steps": 5_000},
        "td3 td3_dq xtd3 xtd3_dq": {"warmup_steps": 25_000},
        "xsac": {"beta": 2.0, "beta_nats": 0.1},
        "xtd3": {"beta": 2.0},
        "xtd3_dq": {"beta": 4.0},
    },
    when={
        "small": {
            "sac xsac": {"hidden_dims": (256, 256), "actor_lr": 1e-3, "critic_lr": 1e-3, "value_lr": 1e-3}
            | {"entropy_coef_lr": 1e-3, "batch_size": 256},
            "all": {"warmup_steps": 1_000},
        },
        "cheetah-run": {"xsac": {"beta": 2.0}, "xtd3": {"beta": 5.0}, "xtd3_dq": {"beta": 4.0}},
        "walker-run": {"xsac": {"beta": 1.0}, "xtd3": {"beta": 2.0}, "xtd3_dq": {"beta": 4.0}},
        "hopper-hop": {
            "xsac": {"beta": 2.0},
            "xtd3": {"beta": 2.0},
            "xtd3_dq": {"beta": 3.0},
            "td3 td3_dq xtd3 xtd3_dq": {"exploration_noise": 0.05},
        },
        "quadruped-run": {"xsac": {"beta": 5.0}, "xtd3": {"beta": 5.0}, "xtd3_dq": {"beta": 20.0}},
    },
)

_GYMNASIUMS = """
Ant HalfCheetah Hopper Humanoid HumanoidStandup InvertedDoublePendulum InvertedPendulum Pusher Reacher Swimmer
Walker2d
"""
_SHORTER = {"Pusher": 100, "Reacher": 50}  # steps, of 1,000


def _gymnasium_tasks() -> Iterator[Task]:
    for name in _GYMNASIUMS.split():
        yield Task(f"{name}-v5", _GYMNASIUM, None, *RETURN_ITSELF, _SHORTER.get(name, 1000))


_GYMNASIUM = Suite(
    "gymnasium",
    config="mujoco",
    values=LOCOMOTION_VALUES,
    tasks=_gymnasium_tasks,
    environment="xql_jax.envs.registered:Registered",
    packages=("mujoco", "gymnasium"),
    is_registered=True,
    scales_rewards=True,
)

# The unit of your rewards is unknown. So rewards have a root mean square of 1 for methods with a Q or V, XQL
# finds its `beta` by a divergence of V's weights, and every policy that clones by weights has the same
# divergence from the data. A --beta or --awr_temperature of the user's is kept: docs/choosing-beta.md.
_OWN_VALUES = Values({"all": {"scale_rewards": True}, **IN_NATS})
OWN = Suite(  # users' own environments, and other packages', which Gymnasium makes
    "own",
    config="own",
    values=_OWN_VALUES,
    takes_any_config=True,
    environment="xql_jax.envs.registered:Registered",
    packages=("gymnasium",),
    is_registered=True,
    tells_success_late=True,
)

# DM Control's tasks by domain. They are listed here because importing the suite takes a second.
_DM_CONTROLS = """
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
_DM_CONTROL_RULES = (0.0, 1000.0, 1000)


def _dm_control_tasks() -> Iterator[Task]:
    for domain, *names in map(str.split, _DM_CONTROLS.strip().splitlines()):
        for name in names:
            yield Task(f"{domain}-{name}", _DM_CONTROL, None, *_DM_CONTROL_RULES)


_DM_CONTROL = Suite(
    "dm_control",
    config="own",
    values=_OWN_VALUES,
    tasks=_dm_control_tasks,
    environment="xql_jax.envs.dm_control:DMControl",
    packages=("mujoco", "dm_control"),
)

PLAYGROUND_MODULE = "playground"  # in the names of MuJoCo Playground's tasks, playground:NAME
# The tasks of DM Control that Playground has, under names such as CheetahRun.
_IN_PLAYGROUND = """
acrobot-swingup acrobot-swingup_sparse ball_in_cup-catch cartpole-balance cartpole-balance_sparse
cartpole-swingup cartpole-swingup_sparse cheetah-run finger-spin finger-turn_easy finger-turn_hard fish-swim
hopper-hop hopper-stand humanoid-run humanoid-stand humanoid-walk pendulum-swingup point_mass-easy
reacher-easy reacher-hard swimmer-swimmer6 walker-run walker-stand walker-walk
"""
_SHORTENED = {"ball_in_cup-catch": "BallInCup", "point_mass-easy": "PointMass"}


def _name_in_playground(twin: str) -> str:
    words = re.split("[-_]", twin)
    return f"{PLAYGROUND_MODULE}:{_SHORTENED.get(twin) or ''.join(map(str.capitalize, words))}"


DM_CONTROL_NAMES = {_name_in_playground(twin): twin for twin in _IN_PLAYGROUND.split()}


def _playground_tasks() -> Iterator[Task]:
    for name in DM_CONTROL_NAMES:
        yield Task(name, PLAYGROUND, None, *_DM_CONTROL_RULES)


COMPILED = Suite(  # environments in JAX: users' own, and Playground's
    "compiled",
    config="own",
    values=_OWN_VALUES,
    tasks=_playground_tasks,
    environment="xql_jax.envs.compiled:CompiledEnv",
    is_compiled=True,
    packages=("jax",),
    max_environments=4096,
)
PLAYGROUND = dataclasses.replace(
    COMPILED,
    jax_environment="xql_jax.envs.playground:Playground",
    packages=("mujoco-mjx", "playground", "mujoco", "jax"),
)

RECORDS = (_GYMNASIUM, OWN, _DM_CONTROL, COMPILED)
