"""Which kernels became faster or slower between two sweeps, beyond their noise.

Rows belong together by call, layer, precision, version and batch. A difference counts where it is
larger than both rows' spreads taken together, and than what two runs of a device differ by.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

KEY = ("call", "layer", "operation", "precision", "version", "batch")
FLOOR = 0.02  # clocks and placement differ by as much from run to run


class Change(NamedTuple):
    key: tuple[Any, ...]
    old: float  # microseconds
    new: float
    noise: float  # as a share

    @property
    def ratio(self) -> float:
        return self.new / self.old

    @property
    def significant(self) -> bool:
        return abs(math.log(self.ratio)) > math.log1p(self.noise)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD.json")
    parser.add_argument("new", type=Path, metavar="NEW.json")
    parser.add_argument(
        "--fail-on-regression", action="store_true", help="exit status 1 if anything is slower"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    old, new = (_read(path) for path in (arguments.old, arguments.new))
    if _gpu(old) != _gpu(new):
        print(f"note: measured on {_gpu(old)} and on {_gpu(new)}")
    found = sorted(changes(old, new), key=lambda change: change.ratio)
    for change in found:
        if change.significant:
            what = "slower" if change.ratio > 1 else "faster"
            factor = max(change.ratio, 1 / change.ratio)
            print(
                f"{factor:6.2f}x {what}  {change.old:.1f} -> {change.new:.1f} us  {_name(change)}"
            )
    for label, rows in (("lost", _lost(old, new)), ("gained", _lost(new, old))):
        for key, reason in rows:
            print(f"{label}: {' '.join(map(str, key))}{reason}")
    slower = sum(change.significant and change.ratio > 1 for change in found)
    faster = sum(change.significant and change.ratio < 1 for change in found)
    print(f"{len(found)} compared: {faster} faster, {slower} slower beyond noise")
    if slower and arguments.fail_on_regression:
        raise SystemExit(1)


def changes(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """Every row that both sweeps measured."""
    before, after = _measured(old), _measured(new)
    for key in before.keys() & after.keys():
        noise = max(FLOOR, math.hypot(before[key]["spread"], after[key]["spread"]))
        yield Change(key, before[key]["us"], after[key]["us"], noise)


def _lost(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """What ``one`` measured and ``other`` did not, with the reason, if it has one."""
    rows = {_key(row): row for row in other["rows"]}
    for key in _measured(one).keys() - _measured(other).keys():
        reasons = (rows.get(key, {}).get(why) for why in ("refused", "failed", "wrong"))
        yield key, "".join(f" ({reason})" for reason in reasons if reason)


def _measured(sweep: dict[str, Any]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {_key(row): row for row in sweep["rows"] if "us" in row}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _name(change: Change) -> str:
    return " ".join(map(str, change.key))


def _gpu(sweep: dict[str, Any]) -> str:
    return str(sweep["machine"].get("gpu", {}).get("name", "no GPU"))


def _read(path: Path) -> dict[str, Any]:
    try:
        sweep: dict[str, Any] = json.loads(path.read_text())
        emulated = sweep["emulated"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"bench compare: {path}: is no sweep of kernels ({error})") from error
    if emulated:
        raise SystemExit(f"bench compare: {path}: emulated times say nothing about a GPU")
    return sweep
