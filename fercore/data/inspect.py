"""What is in a dataset: counts beside the published ones, faults, duplicates, example faces."""

from __future__ import annotations

import functools
import io
import textwrap
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fercore.data.allocation import shuffle
from fercore.data.dataset import CLASSES, SIZE, SPLITS, Dataset, Skipped
from fercore.data.images import is_image
from fercore.data.parts import Parts, leaked_twins
from fercore.data.splits import PAPER_COUNTS
from fercore.data.tree import natural_key
from fercore.files import write_atomically

ALL = "all"
"""The column of a whole set beside its parts, and the row of all classes."""

Counts = Mapping[str, int]


def _by_class(*counts: int, contempt: int = 0) -> dict[str, int]:
    return dict(zip(CLASSES, (*counts, contempt), strict=True))


PUBLISHED_CLASSES: Mapping[str, Mapping[str, Counts]] = {
    "fer2013": {
        "train": _by_class(3995, 436, 4097, 7215, 4830, 3171, 4965),
        "validation": _by_class(467, 56, 496, 895, 653, 415, 607),
        "test": _by_class(491, 55, 528, 879, 594, 416, 626),
        ALL: _by_class(4953, 547, 5121, 8989, 6077, 4002, 6198),
    },
    "jaffe": {ALL: _by_class(30, 29, 32, 31, 31, 30, 30)},
    "ckplus": {ALL: _by_class(135, 177, 75, 207, 84, 249, 0, contempt=54)},
    "kdef": {ALL: _by_class(140, 140, 140, 140, 140, 140, 140)},
    "rafdb": {
        "test": _by_class(162, 160, 74, 1185, 478, 329, 680),
        ALL: _by_class(867, 877, 355, 5957, 2460, 1619, 3204),
    },
    "affectnet": {
        "test": _by_class(500, 500, 500, 500, 500, 500, 500, contempt=500),
        ALL: _by_class(25382, 4303, 6878, 134915, 25959, 14590, 75374, contempt=4250),
    },
    "rafd": {ALL: _by_class(201, 201, 201, 201, 201, 201, 201, contempt=201)},
}
"""Images by format, part and class, of the complete sets as they are read by default, and of
contempt where it is asked for; ckplus is CK+48. Train is absent where validation is drawn from
it."""

PUBLISHED_SUBJECTS: Mapping[str, Counts] = {
    "jaffe": {
        "KA": 23,
        "KL": 22,
        "KM": 22,
        "KR": 20,
        "MK": 21,
        "NA": 21,
        "NM": 20,
        "TM": 21,
        "UY": 21,
        "YM": 22,
    }
}


@dataclass(frozen=True)
class Duplicates:
    """Identical images, by the pixels before cropping. A group is two or more of them."""

    distinct: int  # images that remain when each group counts once
    groups: int
    within_parts: int  # groups with at least two images in one part
    across_parts: int  # groups with images in at least two parts
    conflicting: tuple[tuple[str, ...], ...]  # files of the groups that carry several labels
    leaked: tuple[str, ...]  # test images with a twin in train


@dataclass(frozen=True)
class Inspection:
    """Plain values about a dataset; counts are of images."""

    name: str
    format: str
    synthetic: bool
    images: int
    classes: Mapping[str, Counts]  # part or ALL -> class -> images
    subjects: Mapping[str, Counts]  # part or ALL -> subject -> images; "" is nobody named
    published_classes: Mapping[str, Counts]  # as classes, of the complete set; parts may be absent
    published_sizes: Counts  # part -> images, in the paper
    published_subjects: Counts  # subject -> images, of the complete set
    skipped: tuple[Skipped, ...]
    blank: tuple[str, ...]  # files whose pixels are all alike
    duplicates: Duplicates
    notes: tuple[str, ...]


def describe(dataset: Dataset, parts: Parts) -> Inspection:
    """Count a dataset and its split, and look for blank and identical images."""
    rows = {**parts.rows(), ALL: np.arange(len(dataset))}
    known = CLASSES[: dataset.classes]
    pixels = dataset.images.reshape(len(dataset), -1)
    blank = np.flatnonzero(pixels.max(axis=1) == pixels.min(axis=1))
    return Inspection(
        name=dataset.name,
        format=dataset.format,
        synthetic=dataset.synthetic,
        images=len(dataset),
        classes={
            part: {name: int(np.sum(dataset.labels[chosen] == c)) for c, name in enumerate(known)}
            for part, chosen in rows.items()
        },
        subjects={part: _count(dataset.subjects[i] for i in rows[part]) for part in rows},
        published_classes={
            part: {name: counts[name] for name in known}
            for part, counts in PUBLISHED_CLASSES.get(dataset.format, {}).items()
        },
        published_sizes=dict(zip(SPLITS, PAPER_COUNTS.get(dataset.format, ()), strict=False)),
        published_subjects=PUBLISHED_SUBJECTS.get(dataset.format, {}),
        skipped=dataset.skipped,
        blank=tuple(dataset.files[row] for row in blank),
        duplicates=_duplicates(dataset, parts),
        notes=(*dataset.notes, *parts.notes),
    )


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: natural_key(item[0])))


def _duplicates(dataset: Dataset, parts: Parts) -> Duplicates:
    alike: defaultdict[str, list[int]] = defaultdict(list)
    for row, fingerprint in enumerate(dataset.sha256):
        alike[fingerprint].append(row)
    groups = [rows for rows in alike.values() if len(rows) > 1]
    part_of = parts.names(len(dataset))
    per_part = [Counter(part_of[row] for row in rows if part_of[row]) for rows in groups]
    return Duplicates(
        distinct=len(alike),
        groups=len(groups),
        within_parts=sum(any(count > 1 for count in counts.values()) for counts in per_part),
        across_parts=sum(len(counts) > 1 for counts in per_part),
        conflicting=tuple(
            tuple(dataset.files[row] for row in rows)
            for rows in groups
            if len({int(dataset.labels[row]) for row in rows}) > 1
        ),
        leaked=tuple(dataset.files[row] for row in leaked_twins(dataset, parts)),
    )


# -- as text ----------------------------------------------------------------------------------

WIDTH = 100
EXAMPLES = 3
NBSP = "\N{NO-BREAK SPACE}"
"""Keeps words on one line while text is wrapped; shown as a space."""


def render_text(inspection: Inspection) -> str:
    """The inspection as plain text with tables, at most 100 columns wide where names allow."""
    blocks = [
        _title(inspection),
        _class_table(inspection),
        _subject_lines(inspection),
        _duplicate_lines(inspection),
        _blank_line(inspection),
        _skipped_lines(inspection.skipped),
        _bullets("Notes", inspection.notes),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _title(inspection: Inspection) -> str:
    people = len([name for name in inspection.subjects[ALL] if name])
    facts = [f"{inspection.images:,} images", f"{people:,} subjects" if people else "no subjects"]
    if inspection.synthetic:
        facts.append("SYNTHETIC (drawn faces, no people)")
    return f"{inspection.name} (format {inspection.format}): {', '.join(facts)}"


def _class_table(inspection: Inspection) -> str:
    """Classes by parts; a published count stands in brackets where it is another."""
    published = {part: dict(counts) for part, counts in inspection.published_classes.items()}
    sizes = {**inspection.published_sizes}
    if ALL in published:
        sizes[ALL] = sum(published[ALL].values())
    elif sizes:
        sizes[ALL] = sum(sizes.values())
    columns = (*SPLITS, ALL)
    table = [["class", *columns]]
    for name in inspection.classes[ALL]:
        counts = [inspection.classes[part][name] for part in columns]
        known = [published.get(part, {}).get(name) for part in columns]
        table.append([name, *map(_beside, counts, known)])
    totals = [sum(inspection.classes[part].values()) for part in columns]
    table.append([ALL, *map(_beside, totals, map(sizes.get, columns))])
    text = _table(table)
    if "(" in text:
        return f"{text}\n(in brackets: published, where it differs)"
    return f"{text}\nEvery published count is met." if sizes else text


def _beside(count: int, published: int | None) -> str:
    differs = published is not None and published != count
    return f"{count:,} ({published:,})" if differs else f"{count:,}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _subject_lines(inspection: Inspection) -> str:
    if set(inspection.subjects[ALL]) <= {""}:
        return ""
    lines = []
    for part in SPLITS:
        people = inspection.subjects[part]
        listed = ", ".join(
            f"{name or '(not named)'}{NBSP}{count:,}" for name, count in people.items()
        )
        lines.append(_wrapped(f"{part} ({_number(len(people), 'subject')}): {listed}"))
    published, here = inspection.published_subjects, inspection.subjects[ALL]
    names = sorted({*published, *here} if published else (), key=natural_key)
    if wrong := [
        f"{name or '(not named)'} {here.get(name, 0):,} ({published.get(name, 0):,})".replace(
            " ", NBSP
        )
        for name in names
        if here.get(name, 0) != published.get(name, 0)
    ]:
        lines.append(_wrapped(f"other than published: {', '.join(wrong)}"))
    return "\n".join(["Subjects", *lines])


def _duplicate_lines(inspection: Inspection) -> str:
    found = inspection.duplicates
    if not found.groups:
        return "Identical images: none"
    lines = [
        f"{found.distinct:,} of {inspection.images:,} images are distinct",
        f"{_number(found.groups, 'group')} of identical images: "
        f"{found.within_parts:,} within a part, {found.across_parts:,} across parts",
    ]
    if found.conflicting:
        examples = "; ".join(_first(files, " = ") for files in found.conflicting[:EXAMPLES])
        conflicting = _number(len(found.conflicting), "group")
        lines.append(f"conflicting labels in {conflicting}, such as {examples}")
    if found.leaked:
        lines.append(
            f"{_number(len(found.leaked), 'test image')} with an exact twin in train, such as "
            f"{_first(found.leaked)}"
        )
    return _bullets("Identical images", lines)


def _blank_line(inspection: Inspection) -> str:
    if not inspection.blank:
        return "Blank images: none"
    return _wrapped(f"Blank images: {len(inspection.blank):,}: {_first(inspection.blank)}", "")


def _skipped_lines(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return "Skipped files: none"
    files: defaultdict[str, list[str]] = defaultdict(list)
    for entry in skipped:
        files[entry.reason].append(entry.file)
    lines = []
    for reason, names in sorted(files.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(names):,}: {reason}: {_first(names)}")
    return _bullets(f"Skipped files: {len(skipped):,}", lines)


def _first(files: Sequence[str], between: str = ", ") -> str:
    """The first few of some files, and whether there are more."""
    return between.join([*files[:EXAMPLES], *(["..."] if len(files) > EXAMPLES else [])])


def _bullets(heading: str, lines: Sequence[str]) -> str:
    return "\n".join([heading, *map(_wrapped, lines)]) if lines else ""


def _wrapped(text: str, indent: str = "  ") -> str:
    filled = textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace(NBSP, " ")


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need; the first left, the others right; a rule under the header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * len(max(lines, key=len)), *lines[1:]])


# -- as a picture -----------------------------------------------------------------------------

FACE = 2 * SIZE  # pixels a face is shown at, and so on
GAP = 8
MARGIN = 24
CAPTION = 16
LABELS = 132  # width of the column of class names
TITLE = 60

PAPER, INK, FAINT, ALARM = "white", "#1a1a1a", "#6b6b6b", "#b3261e"


def contact_sheet(dataset: Dataset, path: Path, per_class: int = 8, seed: int = 0) -> None:
    """Write a PNG with up to ``per_class`` faces of each class, as the network sees them.

    Faces are drawn by ``seed``, of different people as far as there are any; the caption is the
    subject or, where there is none, the file. Raises FercoreError if ``path`` cannot be written.
    """
    title = _title_pieces(dataset)
    grid = LABELS + per_class * (FACE + GAP) - GAP
    width = 2 * MARGIN + max(grid, sum(advance for *_, advance in title))
    row_height = FACE + CAPTION + GAP
    sheet = Image.new("RGB", (width, TITLE + dataset.classes * row_height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    left = MARGIN
    for text, colour, size, advance in title:
        draw.text((left, 36), text, colour, _font(size), anchor="ls")
        left += advance
    for label, name in enumerate(CLASSES[: dataset.classes]):
        top = TITLE + label * row_height
        rows = np.flatnonzero(dataset.labels == label)
        draw.text((MARGIN, top + FACE // 2), name, INK, _font(18), anchor="ls")
        count = f"{len(rows):,} image{'s' * (len(rows) != 1)}"
        draw.text((MARGIN, top + FACE // 2 + 6), count, FAINT, _font(13), anchor="lt")
        for column, row in enumerate(_examples(dataset, rows, per_class, seed)):
            _place(sheet, draw, dataset, row, MARGIN + LABELS + column * (FACE + GAP), top)
    png = io.BytesIO()
    sheet.save(png, "PNG", optimize=True)
    write_atomically(path, png.getvalue())


def _title_pieces(dataset: Dataset) -> list[tuple[str, str, int, int]]:
    """The title: text, colour, font size, and how many pixels further right the next one stands."""
    pieces = [(_plain(dataset.name), INK, 24), (f"{len(dataset):,} images", FAINT, 15)]
    if dataset.synthetic:
        pieces.append(("SYNTHETIC", ALARM, 24))
    return [
        (text, colour, size, round(_font(size).getlength(text)) + 16)
        for text, colour, size in pieces
    ]


def _place(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, dataset: Dataset, row: int, left: int, top: int
) -> None:
    face = Image.fromarray(dataset.images[row]).resize((FACE, FACE), Image.Resampling.BICUBIC)
    sheet.paste(face, (left, top))
    file = dataset.files[row].rsplit("/", 1)[-1]
    stem = file.rsplit(".", 1)[0] if is_image(file) else file
    caption = _fitting(draw, _plain(dataset.subjects[row] or stem))
    draw.text((left + FACE // 2, top + FACE + 2), caption, FAINT, _font(11), anchor="mt")


def _plain(text: str) -> str:
    """The text in ASCII, which is all that Pillow's font has: ``é`` as ``e``, ``中`` as ``?``."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(letters).encode("ascii", errors="replace").decode()


def _fitting(draw: ImageDraw.ImageDraw, text: str) -> str:
    """The text, or as much of its end, which tells files apart, as fits under a face."""
    if draw.textlength(text, _font(11)) <= FACE:
        return text
    while draw.textlength("…" + text, _font(11)) > FACE:
        text = text[1:]
    return "…" + text


def _examples(dataset: Dataset, rows: np.ndarray, wanted: int, seed: int) -> Sequence[int]:
    """Rows in seeded order, distinct images, every subject once before one comes again."""
    order = rows[shuffle([dataset.sha256[row] for row in rows], seed)]
    seen: dict[str, int] = {}
    ranked = []
    for row in dict(zip((dataset.sha256[row] for row in order), order, strict=True)).values():
        subject = dataset.subjects[row] or dataset.files[row]
        seen[subject] = seen.get(subject, 0) + 1
        ranked.append((seen[subject], int(row)))
    ranked.sort(key=lambda pair: pair[0])
    return [row for _, row in ranked[:wanted]]


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
