"""AntMaze: XQL's values are the first ones of Table 4, IQL's those of Kostrikov et al. 2021, Appendix B.

Two settings are not in Table 4 but in the authors' configuration: V's layer norm (`layer_norm`; Appendix D.4
mentions it) and the actor's constant rate (`decay_actor_lr`). The paper evaluates over 1,000 episodes, the
authors' scripts over 100. Here training evaluates over 10 unless --eval_episodes is given; `xql-sweep` and
`xql-reproduce` evaluate over 100.
"""

from ml_collections import ConfigDict

from xql_jax.configuration import VARIANTS_OF_XQL, defaults, update_all, update_in_sample
from xql_jax.learners.registry import method_of


def get_config(algorithm: str = "xql") -> ConfigDict:
    config = defaults(algorithm, "antmaze")
    method = method_of(algorithm)

    update_in_sample(config, awr_temperature=10.0)
    if method in VARIANTS_OF_XQL:
        update_all(config, beta=0.6, clip=7.0, clip_rule="above", layer_norm=True, decay_actor_lr=False)
        # Squared errors, which Eq. 14 prints, let V run away twice as soon: docs/choosing-beta.md.
        update_all(config, critic_loss="huber")
    if method == "iql":
        config.expectile = 0.9
    return config
