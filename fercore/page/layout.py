"""From what a study left to HTML: gathers what each part of the page shows, and fills it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from fercore import report
from fercore.answers import StudyAnswers
from fercore.data.dataset import CLASSES
from fercore.page import (
    changes,
    confusion,
    curves,
    datasets,
    faces,
    images,
    making,
    memory,
)
from fercore.page.study import StudyFiles


@dataclass(frozen=True)
class Section:
    """A part of the page: its template is ``sections/<id>.html``."""

    id: str
    title: str

    @property
    def template(self) -> str:
        return f"sections/{self.id}.html"


def lay_out(study: StudyFiles, refresh: int, with_faces: bool) -> str:
    """The page of a study as HTML; see ``page.write``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fercore.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, points=_points, cell=_cell)
    results = _results(study)
    return environment.get_template("page.html").render(
        study=study,
        refresh=refresh,
        title=_title(study),
        summary="",
        unfinished=making.progress(study),
        synthetic=[name for name, facts in study.datasets.items() if facts.synthetic],
        sections=[
            Section(id, title) for id, title in SECTIONS.items() if _shown(id, study, results)
        ],
        making=making,
        seeds=len({run.facts.seed for run in study.runs}),
        seed_names=", ".join(map(str, sorted({run.facts.seed for run in study.runs}))),
        **results,
        **_images(study, with_faces),
    )


SECTIONS = {
    "questions": "What the study says",
    "baseline": "What the baseline knows",
    "table": "Accuracy on both test sets",
    "memory": "Memory against gain",
    "changes": "What each strategy costs and brings",
    "curves": "Forgetting, epoch by epoch",
    "recall": "Which expressions are forgotten",
    "matrices": "What is taken for what",
    "images": "Images to look at",
    "data": "The datasets",
    "making": "How it was made",
}
"""Titles by id, in the order of the page."""


def _title(study: StudyFiles) -> str:
    source, *targets = study.datasets or ("",)
    model = study.settings.get("model", "a network")
    if not targets:
        return f"What {model} knows of {source}" if source else f"A study of {model}"
    return f"What {model} forgets of {source} when it is adapted to {_and(targets)}"


def _and(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _shown(id: str, study: StudyFiles, results: dict[str, Any]) -> bool:
    """Whether a section has anything to show."""
    tested, targets = bool(study.records), bool(study.targets)
    return {
        "questions": targets,
        "baseline": tested and not targets,
        "table": targets,
        "memory": targets,
        "changes": bool(results["bars"]),
        "curves": bool(results["curves"]),
        "recall": targets,
        "matrices": targets,
        "images": tested,
        "data": bool(study.datasets),
        "making": True,
    }[id]


def _results(study: StudyFiles) -> dict[str, Any]:
    """What the tested runs show; all of it empty while there is none."""
    strategies = list(dict.fromkeys(run.facts.strategy.name for run in study.runs))
    by_target = [(t, [r for r in study.records if r.target == t.name]) for t in study.targets]
    return {
        "table": report.make_table(study.records) if study.records else None,
        "memory": [memory.chart(t, rs, strategies, i) for i, (t, rs) in enumerate(by_target)],
        "legend": memory.legend(strategies),
        "bars": changes.charts(study.targets, strategies),
        "curves": list(curves.groups(study)),
        "recalls": [
            (t.name, [confusion.recalls(rs, role) for role in ("source", "target")])
            for t, rs in by_target
        ],
        "matrices": [(t.name, confusion.matrices(rs)) for t, rs in by_target],
    }


def _images(study: StudyFiles, with_faces: bool) -> dict[str, Any]:
    """What is known of the images, by part and one by one."""
    answers = StudyAnswers(study.directory)
    shown = images.lists(study, answers)
    return {
        "datasets": datasets.views(study, answers),
        "classes": CLASSES,
        "images": shown,
        "faces": faces.collect(study, shown) if with_faces else {},
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(change: float) -> str:
    points = round(100 * change)
    return f"{points:+d}".replace("-", "\N{MINUS SIGN}") if points else "±0"


def _cell(text: str) -> str:
    """A cell of the table as print has it: minus signs, and intervals that can be read aloud."""
    return text.replace("-", "\N{MINUS SIGN}").replace("..", " to ")
