"""What machine code says of a kernel's speed, and the budgets."""

import json

import pytest

from cuda_kernels import evidence, machine_code, specs
from cuda_kernels.__main__ import main
from cuda_kernels.cubin import Resources
from cuda_kernels.machine_code import Instruction

MMA = "HMMA.16816.F32.BF16 R4, R8, R2, R4"


@pytest.fixture
def compilers(cuda_compiler):
    if machine_code.disassembler() is None:
        pytest.skip("nvdisasm is neither on the PATH nor installed (nvidia-cuda-nvdisasm)")


def code_of(*texts, loop_from=0):
    """These instructions, and a branch from the last of them back to one."""
    code = [Instruction(16 * i, text) for i, text in enumerate(texts)]
    back = Instruction(16 * len(code), "@P0 BRA `(.L_x_0)", target=16 * loop_from)
    return [*code, back, Instruction(back.address + 16, "EXIT")]


# A good main loop: of its 12 instructions 8 are products.
GOOD = (
    "MOV R0, RZ",
    "LDGSTS.E.BYPASS.128 [R27], desc[UR10][R14.64]",
    "LDSM.16.M88.4 R8, [R20]",
    "BAR.SYNC 0x0",
    *[MMA] * 8,
)


@pytest.fixture
def kernel():
    return specs.kernel("linear_forward_bf16_mma")


def examine(kernel, *texts, taken=Resources(200, 0, 48 << 10)):
    return evidence.examine(kernel, "sm_90", taken, code_of(*texts, loop_from=1))


def test_what_is_found(kernel):
    found = examine(kernel, *GOOD)
    assert found.broken == ()
    assert (found.instructions, found.local) == (14, 0)
    assert found.occupancy == (2, 8, 8 / 64, "registers")
    assert found.accesses == {
        "global loads": {16: 1},
        "global stores": {},
        "shared loads": {16: 1},
        "shared stores": {},
    }
    loop = found.loop
    assert (loop.instructions, loop.flops, loop.products) == (12, 8 * 4096, 8 / 12)
    counted = {kind: count for kind, count in loop.kinds.items() if count}
    assert counted == {"HMMA": 8, "LDSM": 1, "LDGSTS": 1, "branch": 1, "barrier": 1}


@pytest.mark.parametrize(
    ("change", "taken", "verdict"),
    [
        ([], Resources(200, 24, 0), "keeps in local memory: 24 bytes a thread, 0 instructions"),
        (["STL [R1], R2"], Resources(200, 0, 0), "keeps in local memory: 0 bytes a thread, 1 "),
        ([], Resources(200, 0, 120 << 10), "blocks on a multiprocessor: 1 for want of shared mem"),
        (
            ["LDGSTS.E.64 [R27], desc[UR10][R14.64]", "LDG.E R2, desc[UR10][R14.64]"],
            Resources(200, 0, 0),
            "loads less than 16 bytes a thread in its main loop: 2 instructions",
        ),
        (
            ["MOV R1, R2", "IMAD.MOV.U32 R1, RZ, RZ, R2"] * 9 + [MMA] * 40,
            Resources(200, 0, 0),
            "moves registers in its main loop: 18 times, 16 at most",
        ),
        (
            ["LEA R1, R2, R3, 0x1"] * 8,
            Resources(200, 0, 0),
            "products are 40.0% of its main loop, 42% at least",
        ),
    ],
)
def test_a_broken_budget(kernel, change, taken, verdict):
    (line,) = examine(kernel, *GOOD, *change, taken=taken).broken
    assert line.startswith(verdict)


def test_what_speed_rests_on_is_missing(kernel):
    without = [text for text in GOOD if not text.startswith("LDSM")]
    assert examine(kernel, *without).broken == ("has no LDSM.16.M, which its speed rests on",)


def test_floors_are_those_of_the_architecture(kernel):
    code = code_of(*GOOD, *["LEA R1, R2, R3, 0x1"] * 8, loop_from=1)
    assert evidence.examine(kernel, "sm_80", Resources(200, 0, 0), code).broken == ()


def test_main_loop_is_the_one_with_the_work_of_its_own():
    """Not the loop around it; without products the operations decide, then the accesses."""
    inner = [Instruction(0x10, "FFMA R1, R2, R3, R1"), Instruction(0x20, "@P0 BRA x", target=0x10)]
    around = [Instruction(0, "LEA R1, R2, R3, 0x1"), *inner]
    around += [Instruction(0x30, "IADD3 R1, R1, 0x1, RZ"), Instruction(0x40, "@P1 BRA x", target=0)]
    copies = [
        Instruction(0x50, "LDG.E R1, desc[UR10][R14.64]"),
        Instruction(0x60, "@P0 BRA x", target=0x50),
        Instruction(0x70, "EXIT"),
    ]
    assert evidence.main_loop([*around, *copies]).flops == 64
    assert evidence.main_loop([*around, *copies]).instructions == 2
    assert evidence.main_loop([*around[:1], *around[3:4], *copies]).loads == {4: 1}
    assert evidence.main_loop(copies[-1:]) is None


# -- real kernels ---------------------------------------------------------------------------------


def step_kernels(capsys, tmp_path):
    """The plan of svgg10's step in bf16, as a file, and the kernels that it launches."""
    from fercore.cli import main as fercore_main

    options = ["--batch", "1024", "--device", "cuda", "--precision", "bf16", "--limits", "h200"]
    assert fercore_main(["profile", "--plan", *options, "--json"]) == 0
    plan = tmp_path / "plan.json"
    plan.write_text(capsys.readouterr().out)
    calls = json.loads(plan.read_text())["calls"]
    return plan, {kernel["kernel"] for call in calls for kernel in call["kernels"]}


def test_kernels_of_a_bf16_step_keep_every_budget(capsys, tmp_path, compilers):
    plan, launched = step_kernels(capsys, tmp_path)
    assert main(["evidence", "--plan", str(plan), "--json"]) == 0
    found = {one["kernel"]: one for one in json.loads(capsys.readouterr().out)["kernels"]}
    assert set(found) == launched
    for name, one in found.items():
        assert not one["broken"], f"{name} {one['broken']}"
        assert one["stack"] == one["local"] == 0
    tuned = [name for name in found if "_mma" in name]
    assert len(tuned) >= 7
    for name in tuned:
        assert name in evidence.PRODUCTS[90], f"{name} has no floor; evidence.PRODUCTS takes one"
        assert set(found[name]["loop"]["loads"]) == {"16"}
    for name in ("conv2d_forward_bf16_mma", "linear_forward_bf16_mma"):
        assert found[name]["accesses"]["global stores"] == {"16": 16}, "128 sums a thread in bf16"


def test_text_fits_a_terminal(capsys, compilers):
    assert main(["evidence", "linear_forward*", "linear_bias_gradient"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    assert text.count("\nlinear_forward_bf16_mma  ") == 3
    assert text.count("\nlinear_bias_gradient  ") == 3
    assert text.endswith("\nevery budget is kept\n")


def test_text_names_broken_budgets(capsys, compilers, monkeypatch):
    monkeypatch.setattr(evidence, "BLOCKS", 9)
    assert main(["evidence", "linear_forward_bf16_mma"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "linear_forward_bf16_mma blocks on a multiprocessor: 2 for want of registers"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing*"], "no kernel 'nothing*'; there are "),
        (["*_mma", "--arch", "sm_75"], "no kernel '*_mma'; there are "),
        (["--arch", "host"], "host: limits unknown; there are sm_75, "),
        (["--plan", "missing.json"], "missing.json: cannot be read (No such file or directory)"),
    ],
)
def test_what_cannot_be_shown(capsys, arguments, message):
    assert main(["evidence", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("calls", "not a plan; write one by fercore-train profile --plan --device cuda --json"),
        ("{}", "not a plan; "),
        ('{"calls": [{"kernels": []}]}', "a plan that launches nothing; make it with --device "),
    ],
)
def test_a_file_that_is_no_plan(capsys, tmp_path, text, message):
    path = tmp_path / "plan.json"
    path.write_text(text)
    assert main(["evidence", "--plan", str(path)]) == 2
    assert f"plan.json: {message}" in capsys.readouterr().err


def test_no_disassembler(capsys, cuda_compiler, monkeypatch):
    monkeypatch.setattr(machine_code, "disassembler", lambda: None)
    assert main(["evidence", "linear_forward"]) == 2
    assert (
        "nvdisasm: not found; install the package nvidia-cuda-nvdisasm" in capsys.readouterr().err
    )
