"""``python -m cuda_kernels``: build kernels ahead of time, list them, read their machine code."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cuda_kernels import evidence, evidence_report, specs
from cuda_kernels.build import build
from cuda_kernels.compilers import BuildError
from cuda_kernels.cubin import ARCHITECTURES, arch_number, occupancy, resources
from cuda_kernels.machine_code import machine_code

DEFAULT = "sm_75,sm_80,sm_90"

_HEAD = (
    *("kernel", "version", "type", "arch"),
    *("registers", "stack", "shared", "occupancy", "idea"),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cuda_kernels", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("build", help="compile every kernel into the cache")
    command.add_argument("--arch", default=DEFAULT, help=f"{DEFAULT} (the default); also: host")
    command.set_defaults(run=lambda given: _build(given.arch.split(",")))

    command = commands.add_parser("list", help="every kernel with what it takes, by architecture")
    command.add_argument("--arch", default=DEFAULT, help=f"{DEFAULT} (the default)")
    command.set_defaults(run=lambda given: _list(given.arch.split(",")))

    command = commands.add_parser("sass", help="a kernel's machine code and its instruction count")
    command.add_argument("kernel", metavar="NAME")
    command.add_argument("--arch", default="sm_90", help="sm_90 (the default)")
    command.set_defaults(run=lambda given: _sass(given.kernel, given.arch))

    command = commands.add_parser(
        "evidence", help="what the machine code says of kernels' speed, and the budgets it breaks"
    )
    command.add_argument("names", metavar="NAME", nargs="*", help="or patterns; all (the default)")
    command.add_argument("--arch", default="sm_90", help="sm_90 (the default)")
    command.add_argument(
        "--plan",
        metavar="FILE.json",
        help="only kernels of the step that fercore-train profile --plan --json has written; - is "
        "standard input",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=_evidence)

    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except (BuildError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        sys.stderr.close()
    return 0


def _kernels(target: str) -> list[specs.Kernel]:
    """The kernels that exist for ``target``."""
    every = specs.kernels()
    return [k for k in every if target == "host" or k.arch <= arch_number(target)]


def _build(targets: list[str]) -> None:
    for target in targets:
        for source, macros in dict.fromkeys((k.source, k.macros) for k in _kernels(target)):
            print(build(source, target, macros))


def _list(targets: list[str]) -> None:
    _check_limits(targets)
    rows = [row for target in targets for row in _rows(target)]
    rows.sort(key=lambda row: row[0])
    rows.insert(0, _HEAD)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    previous = ""
    for row in rows:
        # Only the first line of a kernel says what is the same on all architectures.
        shown = row if row[0] != previous else ("", "", "", *row[3:-1], "")
        previous = row[0]
        cells = (cell.ljust(width) for cell, width in zip(shown, widths, strict=True))
        print("  ".join(cells).rstrip())


def _check_limits(targets: list[str]) -> None:
    known = [f"sm_{number}" for number in ARCHITECTURES]
    if unknown := [target for target in targets if target.rstrip("af") not in known]:
        raise ValueError(f"{', '.join(unknown)}: limits unknown; there are {', '.join(known)}")


def _rows(target: str) -> Iterator[tuple[str, ...]]:
    for kernel in _kernels(target):
        taken = resources(build(kernel.source, target, kernel.macros))[kernel.name]
        resident = occupancy(taken, kernel.threads, kernel.shared_bytes, arch_number(target))
        yield (
            kernel.name,
            f"{kernel.operation} {kernel.version}",
            kernel.precision,
            target,
            str(taken.registers),
            str(taken.stack),
            str(taken.shared + kernel.shared_bytes),
            f"{resident.share:.0%}",
            kernel.why,
        )


def _sass(name: str, target: str) -> None:
    kernel = specs.kernel(name)
    if kernel not in _kernels(target):
        raise ValueError(f"{name} needs sm_{kernel.arch}, not {target}")
    instructions = machine_code(build(kernel.source, target, kernel.macros))[name]
    for instruction in instructions:
        print(instruction.text)
    print(f"\n{len(instructions)} instructions")
    for code, count in Counter(one.opcode for one in instructions).most_common():
        print(f"{count:6}  {code}")


def _evidence(given: argparse.Namespace) -> None:
    _check_limits([given.arch])
    kernels = _kernels(given.arch)
    if given.plan is not None:
        launched = _launched(given.plan)
        kernels = [kernel for kernel in kernels if kernel.name in launched]
    if given.names:
        kernels = _called(kernels, given.names)
    found = list(evidence.gather(kernels, given.arch))
    print((evidence_report.to_json if given.json else evidence_report.to_text)(found), end="")


def _called(kernels: list[specs.Kernel], patterns: list[str]) -> list[specs.Kernel]:
    """Those that match any of the patterns; ValueError for a pattern that none matches."""
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(kernel.name, pattern) for kernel in kernels):
            names = ", ".join(kernel.name for kernel in kernels)
            raise ValueError(f"no kernel {pattern!r}; there are {names}")
    return [
        kernel
        for kernel in kernels
        if any(fnmatch.fnmatchcase(kernel.name, pattern) for pattern in patterns)
    ]


def _launched(path: str) -> set[str]:
    """Names of the kernels of a step's plan, in JSON. Raises ValueError: it is no such plan."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text()
        calls = json.loads(text)["calls"]
        names = {kernel["kernel"] for call in calls for kernel in call["kernels"]}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a plan; write one by fercore-train profile --plan --device cuda --json"
        ) from error
    if not names:
        raise ValueError(f"{path}: a plan that launches nothing; make it with --device cuda")
    return names


if __name__ == "__main__":
    sys.exit(main())
