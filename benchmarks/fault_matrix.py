"""Damage every kind of file in run folders in every way, and print what petkit makes of each: `python benchmarks/fault_matrix.py`.

Runs of tiny random models; several hundred cells take some minutes. The exit code is 1 if a cell loses finished work or
reads damaged work.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["HF_HUB_OFFLINE"] = "1"


def main() -> int:
    """Print the matrix."""
    from tests.reliability.benches import BENCHES
    from tests.reliability.matrix import Cell, Matrix, table
    from tests.tiny import tiny_model_folder

    names = [bench.name for bench in BENCHES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=names, help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--every", type=int, default=1, help="try every n-th cell only")
    options = parser.parse_args()
    started, cells = time.monotonic(), list[Cell]()
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_model_folder("bert", Path(folder) / "model")
        for kind in BENCHES:
            if kind.name not in options.kinds:
                continue
            home = Path(folder) / kind.__name__
            home.mkdir()
            matrix = Matrix(kind(home, model), home)
            for number, cell in enumerate(matrix.cells()[:: options.every], 1):
                cells.append(matrix.cell(*cell))
                if sys.stderr.isatty():
                    sys.stderr.write(f"\r{kind.name}: {number} cells ")
    print("\n".join(table(cells)))
    print(f"{time.monotonic() - started:.0f} s")
    return int(any(cell.wrong for cell in cells))


if __name__ == "__main__":
    sys.exit(main())
