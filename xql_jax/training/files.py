"""The names of the files that a training writes."""

from pathlib import Path


class TrainingFiles:
    """Paths of a training's files in its folder."""

    def __init__(self, folder: Path, run: str = ""):
        self.folder = folder
        self.run = run  # the digest of the run's identity; tells its files from another run's
        self.checkpoints = folder / "checkpoints"
        self.metrics = folder / "metrics.csv"
        self.evaluations = folder / "evaluations.csv"
        self.bellman_errors = folder / "bellman_errors.csv"
        self.summary = folder / "summary.json"
        self.preprocessing = folder / "preprocessing.json"
        self.replay = folder / "replay"  # files of the replay buffers, one folder per member
        self.events = folder / "tb"  # TensorBoard's event files
