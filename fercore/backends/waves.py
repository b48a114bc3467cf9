"""How evenly a kernel's blocks spread over the multiprocessors of a GPU.

The blocks that share a multiprocessor share its tensor cores, so a kernel takes as long as the
multiprocessor that gets most of them: 288 blocks on 132 are a third block for 24 of them, while the
others, after two each, stand idle.
"""

from __future__ import annotations

FULL = 0.9
"""Of the multiprocessors' time; a kernel that uses less leaves room for another one.

An estimate: what the second stream brings, ``python -m bench ablation`` measures.
"""


def share_used(blocks: int, multiprocessors: int) -> float:
    """Of the multiprocessors' time while blocks that all take as long are done: 0.73 above."""
    most = -(-blocks // multiprocessors)
    return blocks / (most * multiprocessors)


def leaves_room(blocks: int, multiprocessors: int) -> bool:
    """Whether so many blocks leave multiprocessors idle for long enough."""
    return share_used(blocks, multiprocessors) < FULL
