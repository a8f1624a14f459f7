"""Exports policies to files that need less than this project to act."""
