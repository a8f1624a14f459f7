"""XQL's values by dataset that the paper prints in parentheses in Table 4, for `--tuned`."""

COLUMNS = ("beta", "clip", "batch_size", "v_updates")
ROWS = {
    "antmaze-umaze-v0": (1.0, 7.0, 256, 4),
    "antmaze-umaze-diverse-v0": (2.0, 7.0, 1024, 1),
    "antmaze-medium-play-v0": (0.8, 7.0, 1024, 2),
    "antmaze-medium-diverse-v0": (0.6, 7.0, 256, 4),
    "antmaze-large-play-v0": (0.8, 5.0, 1024, 1),
    "antmaze-large-diverse-v0": (0.6, 5.0, 1024, 1),
    "kitchen-complete-v0": (2.0, 7.0, 1024, 1),
    "kitchen-partial-v0": (5.0, 7.0, 1024, 1),
    "kitchen-mixed-v0": (8.0, 7.0, 1024, 1),
    "halfcheetah-medium-v2": (1.0, 7.0, 256, 1),
    "hopper-medium-v2": (5.0, 7.0, 256, 1),
    "walker2d-medium-v2": (10.0, 7.0, 256, 1),
    "halfcheetah-medium-replay-v2": (1.0, 5.0, 256, 1),
    "hopper-medium-replay-v2": (2.0, 7.0, 256, 1),
    "walker2d-medium-replay-v2": (5.0, 7.0, 256, 1),
    "halfcheetah-medium-expert-v2": (1.0, 5.0, 1024, 1),
    "hopper-medium-expert-v2": (2.0, 7.0, 1024, 1),
    "walker2d-medium-expert-v2": (2.0, 5.0, 1024, 1),
}
