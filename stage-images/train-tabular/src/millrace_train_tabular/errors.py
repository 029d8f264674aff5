"""The one error that a person can mend: its text is a whole sentence with the column, what was found and the remedy."""

import sys


class StageError(Exception):
    """Ends the program with `error: <text>` and exit status 1."""


def warn(text: str) -> None:
    """Says what was done differently from what the caller may expect; the stage goes on."""
    print(f"warning: {text}", file=sys.stderr, flush=True)
