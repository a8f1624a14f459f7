"""Adroit. The paper prints no values for it. XQL's values are from the authors' example for pen-human.

That example also has batches of 1024: --batch_size=1024.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import suite_config

IN_SAMPLE = {"awr_temperature": 0.5, "dropout_rate": 0.1}
DIFFERENCES = {
    "xql": {"beta": 8.0, "clip": 5.0, "uniform_actions": 1, "layer_norm": True},
    "iql": {"expectile": 0.7},
    "bc": {"dropout_rate": 0.1},
    "bc10": {"dropout_rate": 0.1},
}


def get_config(algorithm: str = "xql") -> ConfigDict:
    return suite_config(algorithm, suites=("adroit",), differences=DIFFERENCES, in_sample=IN_SAMPLE)
