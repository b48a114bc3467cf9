"""``report.html``: everything a study found and how it was made, as one page that needs nothing.

The page is made from what the runs left behind, so it can be made again at any time, also while a
study is running. It loads nothing and runs no script. Each module here prepares one part of it as
plain values; the templates lay them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fercore.files import write_atomically
from fercore.page.study import read
from fercore.run_directory import RunDirectory


def write(
    directory: RunDirectory,
    planned: Sequence[str] = (),
    refresh: int = 0,
    faces: bool = False,
) -> Path:
    """Write ``report.html`` into a run directory, finished or not.

    Args:
        directory: of the study.
        planned: ids of its runs, in order, where they are known.
        refresh: seconds after which a browser loads the page again; 0: never.
        faces: show the test images that the page names.

    Raises:
        FercoreError: the folder is of no study, a file in it is damaged, the page cannot be
            written, or the faces are not where the study found them.
    """
    path = directory.path / "report.html"
    page = render(directory, planned, refresh, faces)
    # Names of files need not be valid Unicode, which a page must be.
    write_atomically(path, page.encode(errors="replace"))
    return path


def render(
    directory: RunDirectory,
    planned: Sequence[str] = (),
    refresh: int = 0,
    faces: bool = False,
) -> str:
    """The page as HTML; arguments and errors as for ``write``."""
    from fercore.page.layout import lay_out

    return lay_out(read(directory, planned), refresh, faces)
