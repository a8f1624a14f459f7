"""Evaluation: runs episodes of policies, and summarises their scores."""
