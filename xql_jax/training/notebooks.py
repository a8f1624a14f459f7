"""Progress bars on terminals and in notebooks."""

import sys


def without_bar() -> bool | None:
    """Returns tqdm's `disable`: False in a notebook; else None, which shows the bar on terminals only."""
    return False if "ipykernel" in sys.modules else None
