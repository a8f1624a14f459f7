"""Runs: what a user asks for, from settings to a summary. Nothing here prints or knows of exit codes."""
