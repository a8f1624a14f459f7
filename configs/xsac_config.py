"""X-SAC: SAC's values (Table 5), and beta by task (Table 6); other tasks get 2, the middle of those swept."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.configuration import defaults

SAC_FILE = Path(__file__).with_name("sac_config.py")
TABLE_6 = {"cheetah-run": 2.0, "walker-run": 1.0, "hopper-hop": 2.0, "quadruped-run": 5.0}


def get_config(algorithm: str = "xsac", env_name: str = "", network: str = "paper") -> ConfigDict:
    config = defaults(algorithm, only=("xsac",))
    runpy.run_path(str(SAC_FILE))["update_as_sac"](config, network)
    config.beta = TABLE_6.get(env_name, 2.0)
    return config
