"""Runs: from a user's settings to a summary. Nothing here prints or sets exit codes."""
