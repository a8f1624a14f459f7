"""X-TD3 and, by `--method=xtd3_dq`, X-TD3 - DQ: TD3's values (Table 5), and beta by task (Table 6)."""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.configuration import defaults

TD3_FILE = Path(__file__).with_name("td3_config.py")
TABLE_6 = {
    "xtd3": {"cheetah-run": 5.0, "walker-run": 2.0, "hopper-hop": 2.0, "quadruped-run": 5.0},
    "xtd3_dq": {"cheetah-run": 4.0, "walker-run": 4.0, "hopper-hop": 3.0, "quadruped-run": 20.0},
}
OTHERS = {"xtd3": 2.0, "xtd3_dq": 4.0}  # on other tasks: the middle of the values that the paper swept


def get_config(algorithm: str = "xtd3", env_name: str = "", network: str = "paper") -> ConfigDict:
    config = defaults(algorithm, only=tuple(TABLE_6))
    runpy.run_path(str(TD3_FILE))["update_as_td3"](config, env_name, network)
    config.beta = TABLE_6[algorithm].get(env_name, OTHERS[algorithm])
    return config
