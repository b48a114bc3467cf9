"""The paper as a plan: which networks are trained, on what, and what each one starts from.

A Run is a frozen value that can be written down, sent elsewhere and carried out there: it names
images by dataset, part and share, and the network it starts from by the id of another run. A plan
is a tuple of runs in which each comes after the one it starts from.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from fercore.config import Recipe, Study
from fercore.data.dataset import BASIC
from fercore.errors import FercoreError
from fercore.freeze import Strategy

Role = Literal["source", "target"]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Some images: one part of a dataset's manifest, or a share of its training part."""

    dataset: str
    part: Literal["train", "validation", "test"]
    percent: int = 100


class Run(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """One network to train, or to take as it is.

    Attributes:
        id: unique in the plan, and the name of the run's folder: ``BL``, ``jaffe-FC-50``.
        strategy: what may move.
        target: the dataset it is adapted to; None for a run on the source alone.
        amount: percent of the target's training images; None without a target.
        seed: of first weights, order, dropout and augmentation.
        number: tells apart the random numbers of runs that share a seed.
        model: the network's name.
        starts_from: id of the run whose best network it starts from; None for random weights.
        trains_on: the training images; several parts are joined.
        validation: the sets followed during training, by role.
        choose_on: the roles whose mean validation accuracy picks the best epoch.
        recipe: how it is trained; see ``recipe_for``.
        network: the file of a finished network, which is tested and not trained.
        classes: how many of ``CLASSES`` the network tells apart.
    """

    id: str
    strategy: Strategy
    target: str | None
    amount: int | None
    seed: int
    number: int
    model: str
    starts_from: str | None
    trains_on: tuple[Part, ...]
    validation: Mapping[Role, Part]
    choose_on: tuple[Role, ...]
    recipe: Recipe
    network: str | None = None
    classes: int = BASIC

    def recipe_for(self, images: int) -> Recipe:
        """The recipe for so many training images: small targets get their ``min_steps``."""
        return self.recipe if "source" in self.choose_on else self.recipe.for_images(images)


def make_plan(study: Study, source: str, targets: tuple[str, ...]) -> tuple[Run, ...]:
    """Every run that the study's table needs, in an order that can be carried out.

    Beside the study's strategies these are the ones they start from, and always the baseline BL,
    to which the others are compared.

    Args:
        study: what to compare.
        source, targets: names of the datasets.

    Raises:
        FercoreError: two runs would have the same id.
    """
    runs: dict[str, Run] = {}
    for seed in range(study.seed, study.seed + study.seeds):
        for target in (None, *targets):
            for amount in study.amounts if target else (None,):
                for strategy in _in_order(study):
                    if _needs_target(study, strategy) == (target is not None):
                        run = _run(study, strategy, source, target, amount, seed)
                        if run.id in runs:
                            raise FercoreError(
                                f"two runs would be called {run.id}; rename a target"
                            )
                        runs[run.id] = run
    return tuple(runs.values())


def single_run(study: Study, dataset: str) -> Run:
    """The run that trains one network on one dataset, as BL does on the source."""
    return _run(study, study.strategy_named("BL"), dataset, None, None, study.seed)


def fingerprint(run: Run, parent: str | None, manifests: Mapping[str, str]) -> str:
    """A digest of everything that decides the run's weights on a given machine.

    Args:
        run: the run.
        parent: fingerprint of the run it starts from, or digest of the network that it takes.
        manifests: dataset -> digest of its manifest.
    """
    used = {part.dataset for part in (*run.trains_on, *run.validation.values())}
    facts = [msgspec.to_builtins(run), parent, {name: manifests[name] for name in sorted(used)}]
    return hashlib.sha256(msgspec.json.encode(facts, order="sorted")).hexdigest()


def _in_order(study: Study) -> list[Strategy]:
    """BL, the study's strategies and what they start from, each after the one it starts from."""
    ordered: dict[str, Strategy] = {}
    for name in ("BL", *study.strategies):
        for strategy in reversed(list(_ancestry(study, name))):
            ordered[strategy.name] = strategy
    return list(ordered.values())


def _ancestry(study: Study, name: str) -> Iterator[Strategy]:
    while name != "random":
        strategy = study.strategy_named(name)
        yield strategy
        name = strategy.starts_from


def _needs_target(study: Study, strategy: Strategy) -> bool:
    """Whether the strategy, or one it starts from, sees a target: else it is trained only once."""
    return any(other.trains_on != "source" for other in _ancestry(study, strategy.name))


def _run(
    study: Study,
    strategy: Strategy,
    source: str,
    target: str | None,
    amount: int | None,
    seed: int,
) -> Run:
    name = _name(strategy, target, amount)
    sees: dict[str, tuple[Role, ...]] = {
        "source": ("source",),
        "target": ("target",),
        "both": ("source", "target"),
    }
    roles = sees[strategy.trains_on]
    datasets: dict[Role, tuple[str, int]] = {"source": (source, 100)}
    if target is not None and amount is not None:
        datasets["target"] = target, amount
    return Run(
        id=name + _suffix(study, seed),
        strategy=strategy,
        target=target,
        amount=amount,
        seed=seed,
        # Without the suffix: a seed's networks are the same whether it comes alone or with others.
        number=zlib.crc32(name.encode()),
        model=study.model,
        classes=study.classes,
        starts_from=_parent(study, strategy, target, amount, seed),
        trains_on=tuple(Part(datasets[r][0], "train", datasets[r][1]) for r in roles),
        validation={role: Part(name, "validation") for role, (name, _) in datasets.items()},
        choose_on=roles,
        recipe=study.recipe_of(strategy),
        network=study.baseline if strategy.name == "BL" else None,
    )


def _parent(
    study: Study, strategy: Strategy, target: str | None, amount: int | None, seed: int
) -> str | None:
    if strategy.starts_from == "random":
        return None
    parent = study.strategy_named(strategy.starts_from)
    if not _needs_target(study, parent):
        target = amount = None
    return _name(parent, target, amount) + _suffix(study, seed)


def _name(strategy: Strategy, target: str | None, amount: int | None) -> str:
    return strategy.name if target is None else f"{target}-{strategy.name}-{amount}"


def _suffix(study: Study, seed: int) -> str:
    return f"-s{seed}" if study.seeds > 1 else ""
