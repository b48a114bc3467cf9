"""The paper's table from a study's records: as plain text, Markdown, LaTeX and csv.

``make_table`` decides what stands where, once; the renderers only lay it out. Every accuracy stands
with its number of images and its 95 % interval, and beside the paper's figure where there is one.
Intervals and answers are those of ``evidence``, as on the page.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fercore import evidence, metrics, paper, questions, results
from fercore.answer_table import Estimate
from fercore.errors import FercoreError
from fercore.evidence import Evidence
from fercore.files import read_json, write_atomically
from fercore.findings import Accuracy, Cell, Column, Target, column_name, columns
from fercore.measures import Memory
from fercore.questions import Question
from fercore.results import Record
from fercore.run_directory import DatasetFacts, RunDirectory
from fercore.words import MINUS, folded, signed

PROSE = 100
"""Letters in a line of text; longer ones are hard to follow."""

SMALL = 1000
"""Test sets with fewer images get a note about how little they can tell."""


@dataclass(frozen=True)
class Row:
    """A line of the table; ``cells`` has one text a column, empty where there is nothing."""

    label: str
    cells: tuple[str, ...]
    detail: bool = False  # an interval or the paper's figure, which belongs to the row above


@dataclass(frozen=True)
class Table:
    """A laid-out table: blocks of rows, one block a target, under shared columns.

    ``unanswered`` says why there are no answers, where there are none.
    """

    title: str
    columns: tuple[str, ...]
    blocks: tuple[tuple[Row, ...], ...]
    answers: tuple[Question, ...]
    unanswered: str
    notes: tuple[str, ...]


def make_table(found: Evidence, data_notes: Sequence[str] = ()) -> Table:
    """The table of a study.

    Args:
        found: what its runs measured and answered.
        data_notes: sentences about the datasets, added to the notes.
    """
    records, missing = found.records, found.comparisons.missing
    order = columns([record for record in records if record.target is not None])
    return Table(
        title=_title(records),
        columns=tuple(column_name(column) for column in order),
        blocks=tuple(_block(found, target, order) for target in found.targets),
        answers=tuple(questions.ask(found)),
        unanswered=f"Networks cannot be compared image by image: {missing}" if missing else "",
        notes=(*_notes(records, found.targets), *_single_people(found), *data_notes),
    )


def read(directory: RunDirectory) -> Table:
    """The table of a run directory; FercoreError when the study is not finished."""
    directory.check_study()
    if not directory.results.exists():
        raise FercoreError(
            f"{directory.path}: holds no results.json; finish the study with fercore-train "
            f"protocol --out {directory.path} --resume"
        )
    found = evidence.gather(directory, results.read(directory.results))
    return make_table(found, _data_notes(directory))


def write(directory: RunDirectory, records: Sequence[Record]) -> Table:
    """Write ``results.*`` and ``table.*`` of a finished study; the table."""
    results.write(directory.path, records)
    table = read(directory)
    for name, text in (
        ("table.md", to_markdown(table)),
        ("table.tex", to_latex(table)),
        ("table.csv", to_csv(table)),
    ):
        write_atomically(directory.path / name, text)
    return table


def _data_notes(directory: RunDirectory) -> list[str]:
    """What is known about the datasets, each sentence led by the dataset's name."""
    notes = []
    for name, facts in read_json(directory.datasets, dict[str, DatasetFacts]).items():
        notes += [f"{name}: {note}" for note in facts.notes]
        if facts.skipped:
            entries = "entry" if len(facts.skipped) == 1 else "entries"
            notes.append(f"{name}: {len(facts.skipped)} {entries} skipped (see datasets.json).")
    return notes


def _title(records: Sequence[Record]) -> str:
    seeds = len({record.seed for record in records})
    what = f"Accuracy on both test sets, %, {records[0].model}"
    if seeds > 1:
        what += f", mean ± standard deviation of {seeds} seeds"
    if any(record.synthetic for record in records):
        what = (
            f"SYNTHETIC FACES (drawn by a program; these figures say nothing about people). {what}"
        )
    return what


def _published(target: Target) -> Mapping[Column, paper.Accuracies]:
    """The paper's figures for a target, whose source must be the paper's too."""
    return paper.ACCURACIES.get(target.name, {}) if target.source == "fer2013" else {}


Number = Callable[[float, int], str]
"""How a number of so many digits is written."""


def _plain(number: float, digits: int) -> str:
    return f"{number:.{digits}f}"


def _block(found: Evidence, target: Target, order: Sequence[Column]) -> tuple[Row, ...]:
    cells = [target.cells.get(column) for column in order]
    memory = [found.memory.get((target.name, column)) for column in order]
    shared = [found.shared_memory.get((target.name, column)) for column in order]
    published = _published(target)

    def accuracy(
        label: str,
        of: Callable[[Cell], Accuracy | None],
        known: Sequence[Memory | None],
        its: Callable[[Memory], Estimate],
    ) -> Iterable[Row]:
        some = next(of(cell) for cell in cells if cell)
        if some is not None:
            texts = tuple(_accuracy(of(cell)) if cell else "" for cell in cells)
            yield Row(f"{label} (n={some.n})", texts)
            yield _intervals([its(one) if one else None for one in known])

    def figures(role: str) -> Iterable[Row]:
        if published:
            texts = (
                f"{getattr(published[column], role):.2f}" if column in published else ""
                for column in order
            )
            yield Row("paper", tuple(texts), detail=True)

    def measure(
        label: str, its: Callable[[Memory], Estimate | None], number: Number = _plain
    ) -> Iterable[Row]:
        estimates = [its(one) if one else None for one in memory]
        if any(estimates):
            values = (number(100 * one.value, 2) if one else "" for one in estimates)
            yield Row(label, tuple(values))
            yield _intervals(estimates, number)

    source, other = target.source, target.name
    rows = [
        *accuracy(source, lambda cell: cell.source, memory, lambda one: one.source),
        *figures("source"),
        *accuracy(other, lambda cell: cell.target, memory, lambda one: one.target),
        *figures("target"),
        *measure("forgetting", lambda one: one.forgetting, signed),
        *measure("target gain", lambda one: one.gain, signed),
        *measure("memory kept, % of BL's", lambda one: one.retention),
        *measure("harmonic mean of both", lambda one: one.harmonic_mean),
    ]
    if target.shared_classes < target.classes:
        among = "shared classes"
        rows += accuracy(
            f"{source}, {among}", lambda cell: cell.source_shared, shared, lambda one: one.source
        )
        rows += accuracy(
            f"{other}, {among}", lambda cell: cell.target_shared, shared, lambda one: one.target
        )
    return tuple(rows)


def _accuracy(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return ""
    spread = "" if accuracy.sd is None else f" ±{100 * accuracy.sd:.2f}"
    return f"{100 * accuracy.value:.2f}{spread}"


def _intervals(estimates: Sequence[Estimate | None], number: Number = _plain) -> Row:
    texts = (
        "..".join(number(100 * bound, 1) for bound in one.interval) if one and one.interval else ""
        for one in estimates
    )
    return Row("95 % interval", tuple(texts), detail=True)


def _notes(records: Sequence[Record], targets: Sequence[Target]) -> list[str]:
    notes = [
        "Intervals hold 95 %, for other test images or, where the set names its people and that is "
        "wider, for other people; those of changes are of differences on the same images. They are "
        "not corrected for their number, and do not tell how far another training would differ.",
        "Checkpoints, and the best strategy, are chosen on validation images; no test image is used"
        " for any choice.",
        "Forgetting is the source accuracy of BL minus that of the adapted network; target gain is "
        "its target accuracy minus BL's.",
    ]
    if len({record.seed for record in records}) > 1:
        notes.append(
            "All seeds share the parts, and the share of the training images, that the first one "
            "draws: ± tells how far the training's own randomness moves an accuracy, not how far "
            "another split would."
        )
    if any(record.strategy == "BL" and record.epochs == 0 for record in records):
        notes.append(
            "BL was given as a finished network: what it was trained on, and whether it has seen "
            "test images, is not known here."
        )
    for target in targets:
        notes += _notes_on(target)
    strategies = {record.strategy for record in records}
    if "TO" in strategies:
        notes.append("TO (target only, from random weights) is ours; the paper does not have it.")
    if "FU" in strategies:
        notes.append(
            "FU trains on both training parts together and is chosen on the mean of both "
            "validation accuracies; the paper splits the merged set anew."
        )
    if "RE" in strategies:
        notes.append('RE starts from BL; the paper calls it both "retraining" and "from scratch".')
    if any(map(_published, targets)):
        notes.append(
            "The paper's figures are for real photographs and its own network. Its layer table, "
            "optimizer, schedule, augmentation and crops are not published; ours are our own."
        )
    return notes


def _notes_on(target: Target) -> list[str]:
    notes = []
    n = next(iter(target.cells.values())).target.n
    if n < SMALL:
        low, high = metrics.wilson(n / 2, n)
        notes.append(
            f"{target.name} has {n} test image{'s' * (n != 1)}: an accuracy near 50 % is known to "
            f"±{50 * (high - low):.0f} points."
        )
    if target.shared_classes < target.classes:
        notes.append(
            f"{target.source} and {target.name} share {target.shared_classes} of "
            f"{target.classes} classes. A network tuned on a set without a class loses that class "
            "mechanically; the rows for shared classes leave its images and its output out."
        )
    return notes


def _single_people(found: Evidence) -> list[str]:
    """Why a set's intervals are missing, although its answers are known."""
    alone = {
        name
        for target in found.targets
        for column in target.cells
        if (one := found.memory.get((target.name, column)))
        for name, known in ((target.source, one.source), (target.name, one.target))
        if known.interval is None
    }
    return [
        f"All test images of {name} show one person: nothing tells how well others would be "
        "recognised, so no interval stands there."
        for name in sorted(alone)
    ]


# -- layouts ----------------------------------------------------------------------------------


def to_text(table: Table, width: int = 160) -> str:
    """The table for a terminal of ``width`` characters; columns that do not fit go below."""
    label = max((len(_indented(row)) for block in table.blocks for row in block), default=0)
    lines = [*folded(table.title, width), ""]
    for group in _groups(table, width - label):
        widths = [_width(table, i) for i in group]
        rule = "-" * (label + sum(w + 2 for w in widths))
        lines += [_line("", [table.columns[i] for i in group], label, widths), rule]
        for block in table.blocks:
            for row in block:
                lines.append(_line(_indented(row), [row.cells[i] for i in group], label, widths))
            lines.append(rule)
        lines.append("")
    column = min(width, PROSE)
    lines += _answers(table, column)
    for text in table.notes:
        lines += folded(text, column, "* ", "  ")
    return "\n".join(lines) + "\n"


def _answers(table: Table, width: int) -> list[str]:
    """The answers as lines: each question, its answer in short, and each target's sentences."""
    if table.unanswered:
        return [*folded(f"{table.unanswered}.", width), ""]
    lines = []
    for number, question in enumerate(table.answers, 1):
        lines += folded(f"{number}. {question.title}", width)
        lines += [*folded(question.short, width, "   ", "   "), ""]
        for target, said in question.answers:
            lines.append(f"   {target}")
            for text in said:
                lines += folded(text, width, " " * 5, " " * 7)
            lines.append("")
    if lines:
        lines += [*folded(questions.READING, width), ""]
    return lines


def to_markdown(table: Table) -> str:
    """The table as a Markdown document."""
    lines = [f"**{table.title}**", ""]
    lines += [_pipes(["", *table.columns]), _pipes(["---", *("---:" for _ in table.columns)])]
    for number, block in enumerate(table.blocks):
        if number:
            lines.append(_pipes([""] * (1 + len(table.columns))))
        for row in block:
            label = f"*{row.label}*" if row.detail else f"**{row.label}**"
            lines.append(_pipes([label, *row.cells]))
    if table.unanswered:
        lines += ["", f"{table.unanswered}."]
    for number, question in enumerate(table.answers, 1):
        lines += ["", f"**{number}. {question.title}** {question.short}"]
        said = [f"- {target}: {' '.join(texts)}" for target, texts in question.answers]
        lines += ["", *said] if said else []
    if table.answers:
        lines += ["", questions.READING]
    lines += ["", "Notes:", "", *(f"- {note}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """The table as a LaTeX ``table`` that needs the package ``booktabs``."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(table.title)}}}",
        r"\begin{tabular}{l" + "r" * len(table.columns) + "}",
        r"\toprule",
        _ampersands(["", *table.columns]),
    ]
    for block in table.blocks:
        lines.append(r"\midrule")
        for row in block:
            size = r"\footnotesize " if row.detail else ""
            cells = [row.label, *row.cells]
            lines.append(_ampersands(cells, size))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    comments = [*_answers(table, sys.maxsize), *table.notes]  # a comment is a line, however long
    lines += [f"% {text}".rstrip() for text in comments]
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """The table's cells as csv, one line a row; minus signs are such that programs read them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["", *table.columns])
    for block in table.blocks:
        writer.writerows([row.label, *row.cells] for row in block)
    return text.getvalue().replace(MINUS, "-")


def _groups(table: Table, width: int) -> list[list[int]]:
    """Column numbers in groups that fit into ``width`` characters, at least one a group."""
    groups: list[list[int]] = []
    used = width
    for i in range(len(table.columns)):
        needed = _width(table, i) + 2
        if not groups or used + needed > width:
            groups.append([])
            used = 0
        groups[-1].append(i)
        used += needed
    return groups


def _width(table: Table, column: int) -> int:
    cells = (row.cells[column] for block in table.blocks for row in block)
    return max(len(table.columns[column]), *map(len, cells))


def _indented(row: Row) -> str:
    return f"  {row.label}" if row.detail else row.label


def _line(label: str, cells: Sequence[str], label_width: int, widths: Sequence[int]) -> str:
    texts = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join([f"{label:<{label_width}}", *texts]).rstrip()


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ampersands(cells: Sequence[str], prefix: str = "") -> str:
    return " & ".join(prefix + _escaped(cell) if cell else "" for cell in cells) + r" \\"


def _escaped(text: str) -> str:
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text


_ESCAPES = (("%", r"\%"), ("_", r"\_"), ("&", r"\&"), ("±", r"$\pm$"), (MINUS, "$-$"))
