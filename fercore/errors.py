"""The one exception that a user is meant to read, and the hint that it often ends with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FercoreError(Exception):
    """Bad input or an unusable environment, said in one line: what, where (file, row) and the mend.

    The command line prints the message alone and exits with status 2; a traceback is shown only
    with ``--debug``. Programming errors are ordinary ``ValueError`` and ``TypeError``.
    """


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A hint for a misspelt ``word``: the nearest choice if one is near, else all of them."""
    choices = list(choices)
    if not choices:
        return "there are none here"
    folded = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), folded, n=1)
    if near:
        return f"did you mean {folded[near[0]]!r}?"
    return f"choose from {', '.join(choices)}"
