"""Loggers: CSV files that survive a kill, and TensorBoard."""
