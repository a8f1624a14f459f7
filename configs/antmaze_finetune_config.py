"""AntMaze, offline to online: `antmaze_config.py` with a constant learning rate of the actor.

Kostrikov et al. 2021 fine-tune in this way. Here it changes only the offline phase, because no rate decays
online; for XQL it changes nothing. Table 2 is XQL's with --tuned.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from xql_jax.configuration import update_all

OFFLINE_FILE = Path(__file__).with_name("antmaze_config.py")


def get_config(algorithm: str = "xql") -> ConfigDict:
    config = runpy.run_path(str(OFFLINE_FILE))["get_config"](algorithm)
    update_all(config, decay_actor_lr=False)
    return config
