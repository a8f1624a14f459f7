"""Runs: complete jobs, from a user's settings to a summary. They neither print nor set exit codes."""
