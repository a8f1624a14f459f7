"""The suites locomotion and gymnasium, by IQL's name of the file: values are in xql_jax/suites/d4rl.py."""

from ml_collections import ConfigDict

from xql_jax.runs.config_files import config_of


def get_config(text: str = "xql") -> ConfigDict:
    return config_of(text, "locomotion")
