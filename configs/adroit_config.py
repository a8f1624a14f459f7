"""Adroit. The paper prints no values for it. XQL's values are from the authors' example for pen-human.

That example also has batches of 1024: --batch_size=1024.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import VARIANTS_OF_XQL, defaults, update_all, update_in_sample
from xql_jax.learners.registry import method_of


def get_config(algorithm: str = "xql") -> ConfigDict:
    config = defaults(algorithm, "adroit")
    method = method_of(algorithm)

    update_in_sample(config, awr_temperature=0.5, dropout_rate=0.1)
    if method in VARIANTS_OF_XQL:
        update_all(config, beta=8.0, clip=5.0, clip_rule="above", uniform_actions=1, layer_norm=True)
    if method == "iql":
        config.expectile = 0.7
    if method in ("bc", "bc10"):
        update_all(config, dropout_rate=0.1)
    return config
