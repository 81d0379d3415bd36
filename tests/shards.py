"""Reading what runs wrote."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from petkit.storage.parquet_shards import read_shards


def read_column(folder: Path, column: str) -> NDArray[np.float32]:
    """Return a column of plain numbers of all shards, shape ``(rows,)``."""
    return np.concatenate([np.asarray(shard[column], np.float32) for shard in read_shards(folder, [column])])
