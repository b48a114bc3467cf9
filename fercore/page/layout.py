"""From what a study left to HTML: gathers what each section shows, and fills in its template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2

from fercore import evidence, questions, report, versus
from fercore.answers import StudyAnswers
from fercore.consumption import COUNTED, NAMES
from fercore.evidence import Evidence
from fercore.findings import Target
from fercore.page import (
    changes,
    confusion,
    curves,
    datasets,
    faces,
    images,
    layers,
    levels,
    making,
    memory,
)
from fercore.page.study import StudyFiles
from fercore.report import Table
from fercore.results import Record
from fercore.words import listed, percent, signed

Content = dict[str, Any]
"""What a section's template is given, as ``part``."""


@dataclass(frozen=True)
class Section:
    """A part of the page: its template is ``sections/<id>.html``."""

    id: str
    title: str
    content: Content

    @property
    def template(self) -> str:
        return f"sections/{self.id}.html"


@dataclass(frozen=True)
class Material:
    """What the sections are made from."""

    study: StudyFiles
    evidence: Evidence
    with_faces: bool

    @property
    def answers(self) -> StudyAnswers:
        return self.evidence.answers

    @property
    def targets(self) -> list[Target]:
        return self.evidence.targets

    @property
    def strategies(self) -> list[str]:
        """In the order of the table; their places decide colours and symbols."""
        return list(dict.fromkeys(run.facts.strategy.name for run in self.study.runs))

    @cached_property
    def table(self) -> Table:
        return report.make_table(self.evidence)

    def records_of(self, target: Target) -> list[Record]:
        return [record for record in self.study.records if record.target == target.name]


def lay_out(study: StudyFiles, refresh: int, with_faces: bool) -> str:
    """The page of a study as HTML; see ``page.write``."""
    material = Material(study, evidence.gather(study.directory, study.records), with_faces)
    contents = ((id, title, gather(material)) for id, (title, gather) in SECTIONS.items())
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fercore.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, points=_points, cell=_cell, number=_number, drift=_drift, listed=listed
    )
    return environment.get_template("page.html").render(
        study=study,
        refresh=refresh,
        title=_title(study),
        unfinished=making.progress(study),
        synthetic=[name for name, facts in study.datasets.items() if facts.synthetic],
        sections=[Section(id, title, part) for id, title, part in contents if part is not None],
    )


def _title(study: StudyFiles) -> str:
    source, *targets = study.datasets or ("",)
    model = study.settings.get("model", "a network")
    if not targets:
        return f"What {model} knows of {source}" if source else f"A study of {model}"
    return f"What {model} forgets of {source} when it is adapted to {listed(targets)}"


# -- sections: None where there is nothing to show --------------------------------------------


def _questions(material: Material) -> Content | None:
    if not material.targets:
        return None
    pairs = material.evidence.comparisons.pairs
    return {
        "questions": material.table.answers,
        "reading": questions.READING,
        "unanswered": material.table.unanswered,
        "pairs": [(*of, versus.rows(some)) for of, some in pairs.items()],
        "seeds": len(material.study.seeds),
    }


def _baseline(material: Material) -> Content | None:
    records = material.study.records
    return {"records": records} if records and not material.targets else None


def _table(material: Material) -> Content | None:
    if not material.targets:
        return None
    blocks = [
        (target, rows, levels.sentences(material.evidence, target))
        for target, rows in zip(material.targets, material.table.blocks, strict=True)
    ]
    return {"table": material.table, "blocks": blocks}


def _memory(material: Material) -> Content | None:
    if not material.targets:
        return None
    strategies = material.strategies
    charts = [
        memory.chart(material.evidence, target, strategies, number)
        for number, target in enumerate(material.targets)
    ]
    return {"charts": charts, "legend": memory.legend(strategies)}


def _changes(material: Material) -> Content | None:
    comparisons = material.evidence.comparisons
    charts = changes.charts(material.targets, comparisons, material.strategies)
    return {"charts": charts, "paired": bool(comparisons.pairs)} if charts else None


def _curves(material: Material) -> Content | None:
    groups = list(curves.groups(material.study))
    return {"groups": groups} if groups else None


def _recall(material: Material) -> Content | None:
    tables = [
        (target.name, confusion.recalls(material.records_of(target), role))
        for target in material.targets
        for role in confusion.ROLES
    ]
    return {"tables": tables} if tables else None


def _matrices(material: Material) -> Content | None:
    if not material.targets:
        return None
    return {
        "targets": [(t.name, confusion.matrices(material.records_of(t))) for t in material.targets],
        "seeds": len(material.study.seeds),
    }


def _layers(material: Material) -> Content | None:
    found = layers.layers(material.study)
    if not (found.targets or found.missing):
        return None
    return {"layers": found, "study": material.study}


def _images(material: Material) -> Content | None:
    if not material.study.records:
        return None
    shown = images.lists(material.study, material.answers)
    return {
        "images": shown,
        "faces": faces.collect(material.study, shown) if material.with_faces else {},
    }


def _data(material: Material) -> Content | None:
    views = datasets.views(material.study, material.answers)
    return {"datasets": views, "classes": material.study.classes} if views else None


def _making(material: Material) -> Content:
    study = material.study
    return {
        "study": study,
        "runs": making.runs(study),
        "sources": [NAMES[source] for source in making.sources(study)],
        "consumption": making.consumption(study),
        "counted": COUNTED,
        "seeds": ", ".join(map(str, study.seeds)),
    }


SECTIONS: dict[str, tuple[str, Callable[[Material], Content | None]]] = {
    "questions": ("What the study says", _questions),
    "baseline": ("What the baseline knows", _baseline),
    "table": ("Accuracy on both test sets", _table),
    "memory": ("Memory against gain", _memory),
    "changes": ("What each strategy costs and brings", _changes),
    "curves": ("Forgetting, epoch by epoch", _curves),
    "recall": ("Which expressions are forgotten", _recall),
    "matrices": ("What is taken for what", _matrices),
    "layers": ("Where the networks moved", _layers),
    "images": ("Images to look at", _images),
    "data": ("The datasets", _data),
    "making": ("How it was made", _making),
}
"""Title, and what gathers the content, by id, in the order of the page."""


# -- filters ----------------------------------------------------------------------------------


def _points(change: float) -> str:
    return signed(100 * change)


def _number(count: int) -> str:
    return f"{count:,}"


def _drift(value: float) -> str:
    """Three digits; what is not exactly 0 or 1 never looks so."""
    if value in (0, 1):
        return f"{value:.0f}"
    return f"{min(max(value, 0.001), 0.999 if value < 1 else value):.3f}"


def _cell(text: str) -> str:
    """A cell of the table with intervals that can be read aloud."""
    return text.replace("..", " to ")
