"""Evaluation: episodes of a policy, and what a handful of scores says."""
