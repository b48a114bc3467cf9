"""How much of a GPU some blocks use."""

from __future__ import annotations

import pytest

from fercore.backends.waves import leaves_room, share_used


@pytest.mark.parametrize(
    ("blocks", "share"),
    [(1, 1 / 132), (132, 1.0), (133, 133 / 264), (288, 288 / 396), (1152, 1152 / 1188)],
)
def test_the_share_that_is_used(blocks, share):
    assert share_used(blocks, 132) == pytest.approx(share)


def test_few_blocks_leave_room():
    assert [blocks for blocks in (16, 132, 288, 576, 1152, 9216) if leaves_room(blocks, 132)] == [
        *(16, 288, 576)
    ]
