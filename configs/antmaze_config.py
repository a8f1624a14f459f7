"""AntMaze (Table 4). Values of XQL: Table 4's first ones; of IQL: Kostrikov et al. 2021, Appendix B."""

from ml_collections import ConfigDict

from xql_jax.configuration import suite_config

IN_SAMPLE = {"awr_temperature": 10.0}
DIFFERENCES = {
    "xql": {"beta": 0.6, "clip": 7.0, "layer_norm": True, "decay_actor_lr": False},
    "iql": {"expectile": 0.9},
}

# Table 4, in parentheses: beta, clip, batch size, v_updates.
TABLE_4 = {
    "antmaze-umaze-v0": (1.0, 7.0, 256, 4),
    "antmaze-umaze-diverse-v0": (2.0, 7.0, 1024, 1),
    "antmaze-medium-play-v0": (0.8, 7.0, 1024, 2),
    "antmaze-medium-diverse-v0": (0.6, 7.0, 256, 4),
    "antmaze-large-play-v0": (0.8, 5.0, 1024, 1),
    "antmaze-large-diverse-v0": (0.6, 5.0, 1024, 1),
}


def get_config(algorithm: str = "xql") -> ConfigDict:
    return suite_config(
        algorithm, suites=("antmaze",), differences=DIFFERENCES, in_sample=IN_SAMPLE, tuned=TABLE_4
    )
