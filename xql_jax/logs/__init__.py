"""Loggers: CSV files that stay complete if the process is killed, and TensorBoard."""
