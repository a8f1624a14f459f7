"""Rows of a run's CSV files, as they are read; loggers for TensorBoard and Weights & Biases."""
