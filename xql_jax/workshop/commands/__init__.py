"""Command lines: their flags, what they print, and how they end."""
