"""Values of every method's config, for same_numbers.py: each suite's tasks, offline, in fine-tuning, tuned and online."""

# ruff: noqa: E501
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.kinds import METHOD_SETTINGS, Finetune, Offline, Online
from xql_jax.settings import settings_of, values_of

NOT_VALUES = ("algorithm", "method", "suite")
POLICIES = (
    "xql+reverse_kl",
    "xql+max_q",
    "xql+weighted_flow",
    "iql+trust_region",
    "iql+mixture",
    "bc+mixture",
)
ONLINE_TASKS = (
    "cartpole-swingup",
    "cheetah-run",
    "walker-run",
    "hopper-hop",
    "quadruped-run",
    "HalfCheetah-v5",
)
D4RL_TASKS = (
    *("pointmaze-umaze-v0", "pointmaze-large-rare-v0", "maze2d-umaze-v1", "antmaze-umaze-v0"),
    *(
        "antmaze-large-diverse-v2",
        "kitchen-complete-v0",
        "hopper-medium-v2",
        "pen-human-v1",
        "door-cloned-v1",
    ),
)


def configs_cases():
    """Name -> {kind, method, tasks}; only for `write`; `compare` reads cases.json."""
    from xql_jax.learners.registry import OFFLINE, ONLINE
    from xql_jax.suites.tasks import TASKS

    ogbench = {name.split("-singletask")[0]: name for name in TASKS if "singletask" in name}
    tasks, cases = [*D4RL_TASKS, *ogbench.values(), None], {}
    for method in (*OFFLINE, *POLICIES):
        for kind in ("offline", "finetune"):
            cases[f"{method} {kind}"] = {"kind": kind, "method": method, "tasks": tasks}
    cases["xql tuned"] = {"kind": "tuned", "method": "xql", "tasks": tuned_tasks()}
    for method in ONLINE:
        for kind in ("online", "small"):
            cases[f"{method} {kind}"] = {"kind": kind, "method": method, "tasks": ONLINE_TASKS}
    return cases


def tuned_tasks():
    robots = [
        f"{robot}-{data}-v2"
        for robot in ("halfcheetah", "hopper", "walker2d")
        for data in ("medium", "medium-replay", "medium-expert")
    ]
    mazes = [
        f"antmaze-{name}-v0"
        for name in ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
    ]
    return [*robots, *mazes, *(f"kitchen-{name}-v0" for name in ("complete", "partial", "mixed"))]


def collect_configs(case, shop):
    values = {}
    for task in case["tasks"]:
        for name, value in config_of(case["kind"], case["method"], task).items():
            if name not in NOT_VALUES:
                values[f"value/{task} {name}"] = str(value)
    return values


def config_of(kind, method, task):
    kinds = {"finetune": Finetune, "online": Online, "small": Online}
    network, tuned = "small" if kind == "small" else "paper", kind == "tuned"
    given = {"env_name": task, "dataset": task is None, "network": network, "tuned": tuned}
    value = choose_config(kinds.get(kind, Offline), method, **given)
    if hasattr(value, "config"):  # a checkout before a run was one value
        return {
            name: one
            for name, one in value.config.items()
            if name in settings_of(kinds.get(kind, Offline)) or name not in METHOD_SETTINGS
        }
    return {
        name: one
        for name, one in value.values.items()
        if name in METHOD_SETTINGS or name in values_of(value.learner)
    }
