"""For tests of the page: HTML read strictly, and what can be asked of it."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

import html5lib


def parse(html: str) -> Element:
    """The document; html5lib raises ParseError for whatever is not valid."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(html)


def tag(element: Element) -> str:
    """An element's name; those of SVG have none of their own names in HTML but ``title``."""
    return element.tag.rpartition("}")[2]


def elements(document: Element, name: str) -> list[Element]:
    return [element for element in document.iter() if tag(element) == name]


def words(element: Element) -> str:
    """All text below an element, spaces made single."""
    return re.sub(r"\s+", " ", "".join(element.itertext())).strip()


def by_id(document: Element, id: str) -> Element:
    (found,) = (element for element in document.iter() if element.get("id") == id)
    return found


def rows(table: Element) -> dict[str, list[str]]:
    """The cells of a table by the header of their row; of equal headers the first counts."""
    result: dict[str, list[str]] = {}
    for row in elements(table, "tr"):
        head, *cells = [words(cell) for cell in row]
        result.setdefault(head, cells)
    return result
