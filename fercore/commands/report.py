"""``fercore-train report``: the page and the table of a run directory."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from fercore.commands.arguments import terminal_width
from fercore.errors import FercoreError

HELP = "make the page of a run directory, and print its table"
EXAMPLES = """\
examples:
  fercore-train report fercore-run
  fercore-train report fercore-run --watch
  fercore-train report fercore-run --format latex > table.tex

the page is report.html in the run directory: one file that loads nothing. It can be made while the
study runs, and shows what is known by then.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="a run directory")
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "latex", "csv"),
        help="print the table alone, and make no page",
    )
    parser.add_argument(
        "--watch", action="store_true", help="make the page again whenever the study changes"
    )
    parser.add_argument(
        "--faces",
        action="store_true",
        help="show test images; most licences let nobody pass on these",
    )


def run(options: Namespace) -> None:
    from fercore import reporting
    from fercore.page.watch import watch
    from fercore.run_directory import RunDirectory

    directory = RunDirectory(Path(options.folder))
    if options.format is not None:
        if options.watch or options.faces:
            raise FercoreError("--format prints the table alone; leave out --watch and --faces")
        sys.stdout.write(reporting.table(directory, options.format, terminal_width()))
    elif options.watch:
        path = reporting.write_page(directory, faces=options.faces)
        print(f"{path}: made again whenever the study changes; Ctrl-C ends this", flush=True)
        watch(directory, lambda refresh: reporting.write_page(directory, refresh, options.faces))
        print(f"{path}: made for the last time")
    else:
        path = reporting.write_page(directory, faces=options.faces)
        if directory.results.exists():
            sys.stdout.write(reporting.table(directory, "text", terminal_width()) + "\n")
        print(f"{path}: all results, as a page")
