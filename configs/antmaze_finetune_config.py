"""AntMaze, offline to online: `antmaze_config.py` with a constant learning rate of the actor.

Kostrikov et al. 2021 fine-tune in this way. Here it changes only the offline phase, because no rate decays
online; for XQL it changes nothing. Table 2 is XQL's with --tuned.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

OFFLINE = runpy.run_path(str(Path(__file__).with_name("antmaze_config.py")))


def get_config(algorithm: str = "xql") -> ConfigDict:
    config = OFFLINE["get_config"](algorithm)
    if "decay_actor_lr" in config:
        config.decay_actor_lr = False
    return config
