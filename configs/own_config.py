"""Your own data: every method's own defaults, because the scale of the rewards is unknown.

The best values of XQL's `beta` and of `awr_temperature` depend on that scale, so tune these two first: see
docs/choosing.md.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import defaults


def get_config(algorithm: str = "xql") -> ConfigDict:
    return defaults(algorithm, "own")
