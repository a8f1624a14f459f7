"""Command lines: flags, what the mains print, and how they end."""
