"""Sweeps: the plan of many runs, where they are trained, and the table of their scores."""
