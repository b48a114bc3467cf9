"""The one exception that a user is meant to read."""


class FercoreError(Exception):
    """Bad input or an unusable environment, said in one line: what, where (file, row) and the mend.

    The command line prints the message alone and exits with status 2; a traceback is shown only
    with ``--debug``. Programming errors are ordinary ``ValueError`` and ``TypeError``.
    """
