"""The README's examples, in order, as one program on the emulator."""

import re

import numpy as np

from cuda_kernels.compilers import PACKAGE


def test_examples_run_and_are_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", (PACKAGE / "README.md").read_text(), re.S | re.M)
    assert len(blocks) == 7
    names: dict = {}
    checks = {
        0: lambda: np.maximum(names["x"] @ names["weight"].T, 0) - names["host"],
        1: lambda: np.zeros(1),
        2: lambda: names["theirs"] @ names["weight"].T - names["result"],
        3: lambda: names["x"] @ names["weight"].T - names["out"],
        4: lambda: np.maximum(names["x"] @ names["weight"].T, 0) - names["out"],
        5: lambda: 3 * names["x"] - names["scaled"],
        6: lambda: np.zeros(1),
    }
    for number, block in enumerate(blocks):
        exec(block, names)
        assert np.abs(checks[number]()).max() < 1e-4, f"example {number}"
    assert np.abs(names["linear"].from_bf16(names["narrow"][2]) - names["host"]).max() < 0.3
    assert "multiples of 8, not 128 and 7" in names["reason"]
    assert np.shares_memory(names["result"], names["out"]), "DLPack copies nothing"
