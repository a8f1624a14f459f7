"""Pictures: their one style, and those of a single run."""
