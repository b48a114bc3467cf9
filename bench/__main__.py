"""``python -m bench BENCHMARK``: each module here is one; ``--help`` tells its options."""

from __future__ import annotations

import argparse
import importlib
import sys

BENCHMARKS = {
    "kernels": "every version of every kernel at the shapes of a training step",
    "compare": "what two sweeps of kernels say is faster or slower",
    "step": "images per second of a whole training step, against PyTorch",
    "ablation": "what each fusion saves of a step",
    "repeat": "the same bits eagerly, recorded, as a graph, and again",
    "study": "time and accuracy of the protocol and of short trainings on real images",
    "frozen": "training above frozen layers, against PyTorch with and without kept features",
    "runs": "how many small runs side by side a device carries out fastest",
    "layers": "time of every convolution, by Winograd's algorithm and directly",
    "accuracy": "the same network and recipe trained by PyTorch, or by another of our algorithms",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    lines = "; ".join(f"{name}: {text}" for name, text in BENCHMARKS.items())
    parser.add_argument("benchmark", choices=BENCHMARKS, help=lines)
    name = parser.parse_args(sys.argv[1:2]).benchmark
    module = importlib.import_module(f"bench.{name}")  # an opponent's package is needed only here
    own = argparse.ArgumentParser(prog=f"python -m bench {name}", description=module.__doc__)
    module.add_arguments(own)
    arguments = own.parse_args(sys.argv[2:])
    arguments.run(arguments)


if __name__ == "__main__":
    main()
