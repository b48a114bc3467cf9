"""``python -m cuda_kernels``: build kernels ahead of time, list them, read their machine code."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator

from cuda_kernels import specs
from cuda_kernels.build import build
from cuda_kernels.compilers import BuildError
from cuda_kernels.cubin import ARCHITECTURES, arch_number, occupancy, opcode, resources, sass

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
    if unknown := [t for t in targets if arch_number(t) not in ARCHITECTURES]:
        known = ", ".join(f"sm_{number}" for number in ARCHITECTURES)
        raise ValueError(f"{', '.join(unknown)}: limits unknown; there are {known}")
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


def _rows(target: str) -> Iterator[tuple[str, ...]]:
    for kernel in _kernels(target):
        taken = resources(build(kernel.source, target, kernel.macros))[kernel.name]
        filled = occupancy(taken, kernel.threads, kernel.shared_bytes, arch_number(target))
        yield (
            kernel.name,
            f"{kernel.operation} {kernel.version}",
            kernel.precision,
            target,
            str(taken.registers),
            str(taken.stack),
            str(taken.shared + kernel.shared_bytes),
            f"{filled:.0%}",
            kernel.why,
        )


def _sass(name: str, target: str) -> None:
    kernel = specs.kernel(name)
    if kernel not in _kernels(target):
        raise ValueError(f"{name} needs sm_{kernel.arch}, not {target}")
    instructions = sass(build(kernel.source, target, kernel.macros))[name]
    for instruction in instructions:
        print(instruction)
    print(f"\n{len(instructions)} instructions")
    for code, count in Counter(map(opcode, instructions)).most_common():
        print(f"{count:6}  {code}")


if __name__ == "__main__":
    sys.exit(main())
