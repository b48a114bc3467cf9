"""``python -m cuda_kernels``."""

import pytest

from cuda_kernels import machine_code, specs
from cuda_kernels.__main__ import main


def test_build_prints_a_file_for_each_source(capsys, cuda_compiler):
    assert main(["build", "--arch", "sm_75,sm_80,host"]) == 0
    files = capsys.readouterr().out.split()
    built = {(kernel.source.stem, kernel.macros) for kernel in specs.kernels()}
    old = {kernel.source.stem for kernel in specs.kernels() if kernel.arch <= 75}
    assert len(set(files)) == len(files) == len(old) + 2 * len(built)


def test_list_names_every_kernel_and_architecture(capsys, cuda_compiler):
    assert main(["list", "--arch", "sm_75,sm_80"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("kernel")
    assert head.endswith("registers  stack  shared  occupancy  idea")
    text = "\n".join(lines)
    for kernel in specs.kernels():
        assert f"\n{kernel.name} " in f"\n{text}"
        assert kernel.why in text
    assert len(lines) == sum(2 if kernel.arch <= 75 else 1 for kernel in specs.kernels())


def test_list_refuses_architectures_without_limits(capsys):
    assert main(["list", "--arch", "sm_80,sm_42"]) == 2
    assert "sm_42: limits unknown; there are sm_75, sm_80" in capsys.readouterr().err


def test_sass_counts_instructions(capsys, cuda_compiler):
    if machine_code.disassembler() is None:
        assert main(["sass", "linear_forward"]) == 2
        assert "install the package nvidia-cuda-nvdisasm" in capsys.readouterr().err
        pytest.skip("nvdisasm is not there")
    assert main(["sass", "linear_forward_bf16_mma", "--arch", "sm_80"]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = dict(reversed(line.split()) for line in lines[lines.index("") + 2 :])
    assert counts["HMMA.16816.F32.BF16"] == "64"
    assert f"{sum(map(int, counts.values()))} instructions" in lines


def test_sass_of_what_is_not_there(capsys):
    assert main(["sass", "nothing"]) == 2
    assert "no kernel 'nothing'; there are " in capsys.readouterr().err
    assert main(["sass", "linear_forward_bf16_mma", "--arch", "sm_75"]) == 2
    assert "needs sm_80, not sm_75" in capsys.readouterr().err
