"""X-TD3 and, by `--method=xtd3_dq`, X-TD3 - DQ: TD3's values (Table 5), and beta by task (Table 6)."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.configuration import online_config

TD3 = runpy.run_path(str(Path(__file__).with_name("td3_config.py")))
TABLE_6 = {
    "xtd3": {"cheetah-run": 5.0, "walker-run": 2.0, "hopper-hop": 2.0, "quadruped-run": 5.0},
    "xtd3_dq": {"cheetah-run": 4.0, "walker-run": 4.0, "hopper-hop": 3.0, "quadruped-run": 20.0},
}
OTHERS = {"xtd3": 2.0, "xtd3_dq": 4.0}  # on other tasks: the middle of the values that the paper swept


def get_config(algorithm: str = "xtd3") -> ConfigDict:
    betas = TABLE_6.get(algorithm, {})
    by_task = {task: {"beta": beta, **TD3["BY_TASK"].get(task, {})} for task, beta in betas.items()}
    differences = {**TD3["DIFFERENCES"], "beta": OTHERS.get(algorithm, 2.0)}
    values = {"differences": differences, "small": TD3["SMALL"], "by_task": by_task}
    return online_config(algorithm, algorithms=tuple(TABLE_6), **values)
