"""Instructions and loops of a disassembly."""

from pathlib import Path

import pytest

from cuda_kernels import machine_code
from cuda_kernels.build import build
from cuda_kernels.compilers import BuildError
from cuda_kernels.machine_code import Instruction, loops, parse

# A loop in a loop; a block out of the way (0x0b0) that leads back; the end, which is never reached.
DISASSEMBLY = """
	.target	sm_90

//--------------------- .text.other               --------------------------
	.section	.text.other,"ax",@progbits
other:
.text.other:
        /*0000*/                   EXIT ;

//--------------------- .text.nested              --------------------------
	.section	.text.nested,"ax",@progbits
	.align	128
        .global         nested
nested:
.text.nested:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   HFMA2.MMA R9, -RZ, RZ, 0, 0 ;
.L_x_3:
        /*0020*/                   UIADD3 UR4, UR4, 0x1, URZ ;
        /*0030*/              @!P2 BRA `(.L_x_5) ;
.L_x_2:
        /*0040*/                   LDG.E.128.CONSTANT R4, desc[UR6][R4.64] ;
        /*0050*/                   FFMA R0, R4, R0, R3 ;
        /*0060*/              @!PT LDS RZ, [RZ] ;
        /*0070*/               @P0 BRA P1, `(.L_x_2) ;
.L_x_4:
        /*0080*/                   FADD R9, R0, R9 ;
        /*0090*/              @!P1 BRA `(.L_x_3) ;
        /*00a0*/                   EXIT ;
.L_x_5:
        /*00b0*/                   MOV R0, RZ ;
        /*00c0*/                   BRA `(.L_x_4) ;
.L_x_6:
        /*00d0*/                   BRA `(.L_x_6);
        /*00e0*/                   NOP;
"""


def test_kernels_and_their_instructions():
    kernels = parse(DISASSEMBLY)
    assert {name: len(code) for name, code in kernels.items()} == {"other": 1, "nested": 15}
    load, branch = kernels["nested"][4], kernels["nested"][7]
    assert load == Instruction(0x40, "LDG.E.128.CONSTANT R4, desc[UR6][R4.64]")
    assert (load.opcode, load.root) == ("LDG.E.128.CONSTANT", "LDG")
    assert branch == Instruction(0x70, "@P0 BRA P1, `(.L_x_2)", target=0x40)
    assert branch.opcode == "BRA"


def test_loops():
    """The way out and back in belongs to the outer loop, and a branch from there makes no other."""
    assert sorted(map(sorted, loops(parse(DISASSEMBLY)["nested"]))) == [
        [2, 3, 4, 5, 6, 7, 8, 9, 11, 12],
        [4, 5, 6, 7],
    ]


def test_a_loop_has_one_way_in():
    """A branch backwards into what the beginning leads to by another way, too, is no loop."""
    code = parse(
        DISASSEMBLY.replace("R1, c[0x0][0x28]", "R1").replace("LDC R1 ", "@P3 BRA `(.L_x_2) ")
    )
    assert sorted(map(sorted, loops(code["nested"]))) == [[4, 5, 6, 7]]


def test_loops_of_a_compiled_kernel(cuda_compiler, tmp_path):
    if machine_code.disassembler() is None:
        pytest.skip("nvdisasm is not there")
    source = tmp_path / "nested.cu"
    source.write_text("""
#include "target.cuh"
KERNEL(nested, 32, Global<const float> x, Global<float> out, u32 rows, u32 columns) {
    float sum = 0;
#pragma unroll 1
    for (u32 i = 0; i < rows; ++i) {
        float product = 1;
#pragma unroll 1
        for (u32 j = 0; j < columns; ++j) product = fmaf(product, x[j], x[i + j]);
        sum += product;
    }
    out[threadIdx.x] = sum;
}
""")
    code = machine_code.machine_code(build(source, "sm_90"))["nested"]
    found = loops(code)
    (inner,) = [
        loop for loop in found if any(code[i].root == "FFMA" for i in loop - outer(loop, found))
    ]
    assert [code[i].kind for i in inner].count("LDG") == 2
    assert sum(code[i].flops for i in inner) == 64
    assert any(inner < loop for loop in found)


def outer(loop, found):
    """What other loops inside ``loop`` own."""
    return frozenset().union(*(other for other in found if other < loop))


@pytest.mark.parametrize(
    ("text", "kind", "width", "flops"),
    [
        ("HMMA.16816.F32.BF16 R160, R16.reuse, R176, R160", "HMMA", 4, 4096),
        ("HMMA.1688.F32.TF32 R160, R16, R176, R160", "HMMA", 4, 2048),
        ("LDSM.16.M88.4 R176, [R20+0x2000]", "LDSM", 16, 0),
        ("LDSM.16.MT88.2 R176, [R20+0x2000]", "LDSM", 8, 0),
        ("LDGSTS.E.BYPASS.128 [R27], desc[UR10][R14.64], !P3", "LDGSTS", 16, 0),
        ("@!P3 LDG.E.64.CONSTANT R2, desc[UR10][R14.64]", "LDG", 8, 0),
        ("LDG.E.U16 R2, desc[UR10][R14.64]", "LDG", 2, 0),
        ("STG.E desc[UR10][R14.64], R2", "STG", 4, 0),
        ("LDS.U8 R2, [R4]", "LDS", 1, 0),
        ("STS.128 [R4], R8", "STS", 16, 0),
        ("STL.64 [R1+0x8], R8", "local", 8, 0),
        ("FFMA.FTZ R2, R3, R4, R5", "float", 4, 64),
        ("IMAD.WIDE.U32 R14, R15, 0x2, R12", "integer", 4, 0),
        ("IMAD.MOV.U32 R7, RZ, RZ, RZ", "move", 4, 0),
        ("HFMA2.MMA R9, -RZ, RZ, 0, 0", "move", 4, 0),
        ("HFMA2.BF16_V2 R9, R8, R7, R6", "float", 4, 0),
        ("@P1 IMAD.MOV R12, RZ, RZ, R215", "move", 4, 0),
        ("BSYNC B0", "branch", 4, 0),
        ("BAR.SYNC.DEFER_BLOCKING 0x0", "barrier", 4, 0),
        ("@!PT LDS RZ, [RZ]", "other", 4, 0),
        ("ULDC UR5, c[0x0][0x240]", "other", 4, 0),
    ],
)
def test_what_an_instruction_does(text, kind, width, flops):
    one = Instruction(0, text)
    assert (one.kind, one.width, one.flops) == (kind, width, flops)


def test_no_disassembler(monkeypatch):
    monkeypatch.setattr(machine_code, "disassembler", lambda: None)
    with pytest.raises(BuildError, match="install the package nvidia-cuda-nvdisasm"):
        machine_code.machine_code(Path("any.cubin"))
