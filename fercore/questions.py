"""The paper's three questions, answered in sentences that go no further than the evidence.

What each strategy does to the memory of the source; which one is best on both sets; whether
transfer helps at all. Verdicts are those of ``fercore.comparison``: paired tests, corrected by Holm
for all pairs of a table. The best strategy is named by validation images alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fercore.answer_table import Estimate
from fercore.comparison import Judgement, Verdict
from fercore.evidence import Evidence
from fercore.findings import Accuracy, Cell, Target
from fercore.measures import BASELINE
from fercore.versus import Versus
from fercore.words import listed, percent, points

ALONE = "TO"
"""The strategy that never sees the source."""


@dataclass(frozen=True)
class Question:
    """A question, its answer over all targets in short, and for each target in sentences."""

    title: str
    short: str
    answers: list[tuple[str, list[str]]]


Phrases = Mapping[Verdict, tuple[str, str]]
"""What is said of one network, and of several, with each verdict."""


READING = (
    "In brackets the difference in points over the same test images. Less, more, better, worse and "
    "not distinguishable are verdicts of paired tests at 0.05, after Holm's correction for all "
    "pairs of networks with the same amount on that test set."
)
"""What the sentences mean."""


def ask(evidence: Evidence) -> list[Question]:
    """The three questions; none without comparisons."""
    if not evidence.comparisons.pairs:
        return []
    return [_memory(evidence), _best(evidence), _transfer(evidence)]


# -- 1: memory --------------------------------------------------------------------------------


def _memory(evidence: Evidence) -> Question:
    source = evidence.targets[0].source
    phrases: Phrases = {
        "worse": (f"knows less of {source} than BL", f"know less of {source} than BL"),
        "better": (f"knows more of {source} than BL", f"know more of {source} than BL"),
        "not distinguishable": _alike("BL"),
    }
    every, answers = [], []
    for target in evidence.targets:
        against = evidence.comparisons.against(target.name, source, BASELINE)
        texts = [*_verdicts(against, phrases, source), *_basis(against, source)]
        if target.shared_classes < target.classes:
            among = evidence.shared.against(target.name, source, BASELINE)
            both = f"Over the {target.shared_classes} classes that both sets have, "
            texts += [both + text for text in _verdicts(among, phrases, source)]
        every += against
        answers.append((target.name, texts))
    return Question(
        "What does each strategy do to the memory of the source?",
        _counted(every, "adapted networks", phrases),
        answers,
    )


# -- 2: both sets -----------------------------------------------------------------------------


def _best(evidence: Evidence) -> Question:
    named: dict[str, list[str]] = {}
    for target in evidence.targets:
        named.setdefault(target.best().name, []).append(target.name)
    best = "; ".join(f"{name} for {listed(of)}" for name, of in named.items())
    return Question(
        "Which strategy is best on both sets?",
        f"By the mean of both validation accuracies: {best}.",
        [(target.name, _about_best(target, evidence)) for target in evidence.targets],
    )


def _about_best(target: Target, evidence: Evidence) -> list[str]:
    best, *others = sorted(target.cells.values(), key=lambda c: c.validation, reverse=True)
    images = " and ".join(f"{n:,}" for n in best.validation_images)
    chosen = (
        f"{best.name} has the best mean validation accuracy: {percent(best.validation)} of "
        f"{images} images"
    )
    if others:
        chosen += f". Next comes {others[0].name} with {percent(others[0].validation)}"
    texts = [f"{chosen}.", f"On test images it reaches {_both(best, target, evidence)}."]
    for dataset in (target.source, target.name):
        phrases: Phrases = {
            "worse": _than("worse", best.name, dataset),
            "better": _than("better", best.name, dataset),
            "not distinguishable": _alike(f"{best.name} on {dataset}"),
        }
        against = evidence.comparisons.against(target.name, dataset, best.column)
        texts += [*_verdicts(against, phrases, dataset), *_basis(against, dataset)]
    return texts


def _both(cell: Cell, target: Target, evidence: Evidence) -> str:
    known = evidence.memory.get((target.name, cell.column))
    return " and ".join(
        [
            _reached(target.source, cell.source, known.source if known else None),
            _reached(target.name, cell.target, known.target if known else None),
        ]
    )


def _reached(dataset: str, accuracy: Accuracy, known: Estimate | None) -> str:
    interval = ""
    if known is not None and known.interval is not None:
        interval = "{:.1f} to {:.1f}, ".format(*(100 * bound for bound in known.interval))
    return f"{percent(accuracy.value)} on {dataset} ({interval}n={accuracy.n:,})"


# -- 3: transfer ------------------------------------------------------------------------------


def _transfer(evidence: Evidence) -> Question:
    title = "Does transfer help at all?"
    phrases: Phrases = {
        "better": _than("better", "training on the target alone"),
        "worse": _than("worse", "training on the target alone"),
        "not distinguishable": _alike("training on the target alone"),
    }
    every: list[Versus] = []
    answers = []
    for target in evidence.targets:
        texts, mine = [], []
        for column in (column for column in target.cells if column[0] == ALONE):
            against = [
                other
                for other in evidence.comparisons.against(target.name, target.name, column)
                if other.column != BASELINE and evidence.knows_source(target, other.column)
            ]
            reached = target.cells[column].target
            texts.append(
                f"With {column[1]} % of {target.name}'s training images and nothing else, a "
                f"network reaches {percent(reached.value)} of {reached.n:,} test images."
            )
            texts += _verdicts(against, phrases, target.name)
            mine += against
        every += mine
        answers.append((target.name, [*texts, *_basis(mine, target.name)]))
    if every:
        return Question(title, _counted(every, "networks that saw both sets", phrases), answers)
    return Question(
        title,
        "That cannot be said yet: no network that saw both sets can be held against one that was "
        "trained on the target alone (strategy TO).",
        [],
    )


# -- in words ---------------------------------------------------------------------------------


def _alike(reference: str) -> tuple[str, str]:
    return f"is not distinguishable from {reference}", f"are not distinguishable from {reference}"


def _than(word: str, reference: str, dataset: str = "") -> tuple[str, str]:
    end = f"{word} than {reference}" + (f" on {dataset}" if dataset else "")
    return f"is {end}", f"are {end}"


def _decisive(versus: Versus) -> Judgement:
    """The judgement by the widest unit that can tell anything; by image if there is none."""
    judgements = versus.judgements
    return next((j for j in judgements if j.verdict != "not testable"), judgements[-1])


def _counted(versus: Sequence[Versus], noun: str, phrases: Phrases) -> str:
    """How many networks, over all targets, got each verdict."""
    if not versus:
        return "Nothing can be said yet: of two networks to compare, one has not been tested."
    counts = Counter(_decisive(one).verdict for one in versus)
    parts = [
        f"{counts[verdict] or 'none'} {phrase[counts[verdict] > 1]}"
        for verdict, phrase in phrases.items()
    ]
    text = f"Of {len(versus)} {noun}, {listed(parts)}."
    by_image = sum(_decisive(one) != one.judgements[0] for one in versus)
    if by_image:
        text += f" {by_image} of them are judged by image alone: too few people were tested."
    return text


def _verdicts(versus: Sequence[Versus], phrases: Phrases, dataset: str) -> list[str]:
    """A sentence for each verdict."""
    texts = []
    for verdict, phrase in phrases.items():
        mine = [_said(one) for one in versus if _decisive(one).verdict == verdict]
        if mine:
            texts.append(f"{listed(mine)} {phrase[len(mine) > 1]}.")
    untested = [one for one in versus if _decisive(one).verdict == "not testable"]
    if untested:
        texts.append(f"{dataset} has too few test images for any verdict.")
    return texts


def _said(versus: Versus) -> str:
    return f"{versus.name} ({points(versus.difference)})"


def _basis(versus: Sequence[Versus], dataset: str) -> list[str]:
    """Where the widest units are too few: what the verdicts cannot mean."""
    if not versus:
        return []
    widest, decisive = versus[0].judgements[0], _decisive(versus[0])
    if widest.unit == decisive.unit:
        return []
    kind = "people" if widest.unit == "subject" else "sequences"
    return [
        f"That is by image, and so speaks of other photographs of the same {kind}: the "
        f"{widest.units} {kind} in {dataset}'s test part are too few for any verdict on others."
    ]
