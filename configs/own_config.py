"""Every method's own defaults: for your own data, and for suites that have no other file.

The scale of your rewards is unknown. The best values of XQL's `beta` and of `awr_temperature` depend on it,
so tune these two first: see docs/choosing.md.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import defaults


def get_config(algorithm: str = "xql", suite: str = "own") -> ConfigDict:
    return defaults(algorithm, suite)
