//! Division of maps into tiles, and of tiles into blocks that are computed together.

use crate::layout::blocked::Blocked;

/// Division of maps into tiles.
pub(crate) struct Tiling {
    /// Output rows and columns of a tile.
    pub m: usize,
    /// Rows and columns of tiles of a map.
    grid: [usize; 2],
    /// Number of tiles of all images.
    pub tiles: usize,
}

/// Division of tiles into blocks.
pub(crate) struct TileBlocks {
    /// Number of tiles of a block.
    pub len: usize,
    pub count: usize,
    /// Whether each block is a task of one thread. With fewer blocks than threads, all threads share the steps of each
    /// block.
    pub independent: bool,
}

impl Tiling {
    pub fn new(m: usize, target: &Blocked) -> Tiling {
        let grid = [target.h.div_ceil(m), target.w.div_ceil(m)];
        Tiling { m, grid, tiles: target.n * grid[0] * grid[1] }
    }

    /// Number of values of a transformed tile.
    pub fn positions(&self) -> usize {
        (self.m + 2) * (self.m + 2)
    }

    /// Image, row and column of a tile's first output.
    pub fn origin(&self, tile: usize) -> (usize, usize, usize) {
        let [rows, columns] = self.grid;
        let (n, cell) = (tile / (rows * columns), tile % (rows * columns));
        (n, cell / columns * self.m, cell % columns * self.m)
    }

    /// Number of tiles of a block, at most `max`, for the smallest number of blocks of equal size.
    pub fn tiles_per_block(&self, max: usize) -> usize {
        self.tiles.div_ceil(self.tiles.div_ceil(max))
    }

    /// Blocks of at most `tiles_per_block` tiles for `threads`.
    pub fn blocks(&self, tiles_per_block: usize, threads: usize) -> TileBlocks {
        let (mut len, mut count) = (tiles_per_block, self.tiles.div_ceil(tiles_per_block));
        if threads > 1 && count > 1 && count < 4 * threads {
            count = count.next_multiple_of(threads);
            len = self.tiles.div_ceil(count);
            count = self.tiles.div_ceil(len);
        }
        TileBlocks { len, count, independent: count >= threads }
    }
}
