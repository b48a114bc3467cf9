"""Tiles: the part of a result that a block of include/tile_product.cuh computes.

All tiles are one source, compiled with other macros. An entry of the result is the same terms,
added in the same order by the same instruction, in each of them: its bits do not depend on the
tile, so a choice between them is a matter of time alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from cuda_kernels.cubin import architecture

STEP_BYTES = 64
"""Of terms: what a stage of the pipeline holds of each row and of each column."""


@dataclass(frozen=True)
class Tile:
    """``rows x columns`` of a result.

    ``blocks`` have to fit a multiprocessor's registers at once; the compiler sees to it.
    """

    rows: int
    columns: int
    blocks: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"

    @property
    def suffix(self) -> str:
        """Of kernels' names; 128x128 is what sources are without macros."""
        return "" if (self.rows, self.columns) == (128, 128) else f"_{self}"

    @property
    def macros(self) -> tuple[str, ...]:
        """``NAME=VALUE`` of what the source is compiled with."""
        if not self.suffix:
            return ()
        return (
            f"SUFFIX={self.suffix}",
            f"TILE_ROWS={self.rows}",
            f"TILE_COLUMNS={self.columns}",
            f"BLOCKS_AT_ONCE={self.blocks}",
        )

    @property
    def stages(self) -> int:
        return 4 if 4 * self._stage_bytes <= 48 << 10 else 3

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return self.stages * self._stage_bytes

    @property
    def _stage_bytes(self) -> int:
        return STEP_BYTES * (self.rows + self.columns)

    def at_once(self, arch: int) -> int:
        """Blocks that a multiprocessor holds at least, by registers and by shared memory."""
        limits = architecture(arch)
        return min(self.blocks, limits.shared // (self.shared + limits.reserved))


LARGE = Tile(128, 128, blocks=2)
TILES = (LARGE, Tile(128, 64, blocks=3), Tile(64, 128, blocks=3), Tile(64, 64, blocks=4))
