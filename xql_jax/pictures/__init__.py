"""Pictures: their style, and the pictures of a single run."""
