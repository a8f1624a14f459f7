"""Training: compiled updates over a population, the loop around them, checkpoints and the run's folder."""
