"""What a run directory tells whoever asks: its page, its table, and what it took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fercore import consumption, page, report
from fercore.config import read_study
from fercore.files import read_json
from fercore.plan import make_plan
from fercore.run_directory import RunDirectory


def write_page(directory: RunDirectory, refresh: int = 0, faces: bool = False) -> Path:
    """Write the page of a study, finished or not; see ``page.write``."""
    return page.write(directory, planned_runs(directory), refresh, faces)


def table(directory: RunDirectory, layout: str, width: int) -> str:
    """The table of a finished study as text, markdown, latex or csv.

    Text is folded to ``width`` characters. Raises FercoreError when the study is not finished.
    """
    found = report.read(directory)
    if layout == "text":
        return report.to_text(found, width)
    render = {"markdown": report.to_markdown, "latex": report.to_latex, "csv": report.to_csv}
    return render[layout](found)


def time_and_energy(directory: RunDirectory) -> str:
    """What the training of a study, or of one network, took, in a sentence or two."""
    used = consumption.of_runs(map(directory.run, planned_runs(directory)))
    return consumption.describe(used, read_json(directory.environment, dict[str, Any]))


def planned_runs(directory: RunDirectory) -> tuple[str, ...]:
    """Ids of all runs of the study in a run directory; none before its images were loaded."""
    if not (directory.config.exists() and directory.datasets.exists()):
        return ()
    source, *targets = read_json(directory.datasets, dict[str, Any])
    study = read_study(directory.config)
    return tuple(run.id for run in make_plan(study, source, tuple(targets)))
