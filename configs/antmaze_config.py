"""AntMaze: XQL's values are the first ones of Table 4, IQL's those of Kostrikov et al. 2021, Appendix B.

Two settings are not in Table 4 but in the authors' configuration: V's layer norm (`layer_norm`; Appendix D.4
mentions it) and the actor's constant rate (`decay_actor_lr`). The paper evaluates over 1,000 episodes, the
authors' scripts over 100. Here training evaluates over 10 unless --eval_episodes is given; `xql-sweep` and
`xql-reproduce` evaluate over 100.
"""

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
