"""X-SAC: SAC's values (Table 5), and beta by task (Table 6); other tasks get 2, the middle of those swept."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.configuration import online_config

SAC = runpy.run_path(str(Path(__file__).with_name("sac_config.py")))
TABLE_6 = {"cheetah-run": 2.0, "walker-run": 1.0, "hopper-hop": 2.0, "quadruped-run": 5.0}


def get_config(algorithm: str = "xsac") -> ConfigDict:
    by_task = {task: {"beta": beta} for task, beta in TABLE_6.items()}
    values = {"differences": SAC["DIFFERENCES"], "small": SAC["SMALL"], "by_task": by_task}
    return online_config(algorithm, algorithms=("xsac",), **values)
