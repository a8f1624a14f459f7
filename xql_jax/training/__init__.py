"""Training: compiled updates of a population, the loop around them, checkpoints and replay files."""
