"""The online methods, on every task: the values are in xql_jax/suites/online.py."""

from ml_collections import ConfigDict

from xql_jax.runs.config_files import config_of


def get_config(text: str = "xsac") -> ConfigDict:
    return config_of(text, "online")
