"""The memory of ``predict`` and ``evaluate`` on the embedded model depends neither on a file's size nor on that of its texts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from petkit.config.loader import load_pipeline
from petkit.engine.device import Device
from petkit.student.model import untrained_student
from petkit.student.training import write_student
from petkit.task.task import Task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
PIPELINE = Path(__file__).parents[2] / "examples" / "support-tickets" / "pipeline.yaml"
MOST_MEBIBYTES = 700
# The command line, and the most memory it had; what a parent measures of a child includes the parent's own.
_MEASURED = """
import sys
from pathlib import Path
from petkit.__main__ import main
try:
    main()
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0], file=sys.__stderr__)
"""


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier on the embedded model, as it is before its training."""
    folder = tmp_path_factory.mktemp("embedded") / "model"
    folder.mkdir()
    task, device = Task.checked(load_pipeline(PIPELINE, ["max_length=64"])), Device("cpu", "float32", 1)
    write_student(folder, task, device, untrained_student(task, device))
    return folder


def long_texts(path: Path) -> None:
    """Write 31 MB of ordinary words in 1,024 rows."""
    text = ("where is my parcel, the refund was not paid " * 700)[:30_000]
    path.write_text(f"{json.dumps({'text': text, 'label': 'delivery'})}\n" * 1024)


def written_once(path: Path) -> None:
    """Write a text of 300,000 characters that stands in each of 1,024 rows, in 14 kB."""
    text = ("where is my parcel " * 16_000)[:300_000]
    pq.write_table(pa.table({"text": [text] * 1024, "label": ["delivery"] * 1024}), path)


def longest_rows(path: Path) -> None:
    """Write rows of nearly 4 MiB: one word, hardly a word, nothing but marks, and a language without spaces."""
    texts = ("x" * 4_100_000, f"a{' ' * 4_100_000}b", "." * 4_100_000, "日本" * 680_000)
    path.write_text("".join(json.dumps({"text": text, "label": "delivery"}, ensure_ascii=False) + "\n" for text in texts * 4))


@pytest.mark.parametrize("command", ["predict", "evaluate"])
@pytest.mark.parametrize("write", [long_texts, written_once, longest_rows])
def test_memory_does_not_grow_with_texts(write: Callable[[Path], None], command: str, classifier: Path, here: Path) -> None:
    path = here / ("rows.parquet" if write is written_once else "rows.jsonl")
    write(path)
    rows = [str(path)] if command == "evaluate" else ["--input", str(path), "--output", "out.jsonl", "--columns", "none"]
    done = subprocess.run([sys.executable, "-c", _MEASURED, command, str(classifier), *rows], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stderr.split()[-1]) / 2**10 < MOST_MEBIBYTES
