"""The word list of the gate finds what it bans, and nothing in plain English."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "words"
BANNED = {
    "to" + "ld": True,
    "reported": False,
    "Who" + "ever": True,
    "cu" + "res": True,
    "secure": False,
    "re" + "commend": False,
}
BANNED |= {
    "it is" + " no file": True,
    "it is no longer there": False,
    "there is no file": False,
    "was_to" + "ld": True,
    "me" + "nded": True,
}


@pytest.mark.parametrize("text", BANNED)
def test_word(text: str, tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "words")
    (tmp_path / "page.md").write_text(f"first line\n{text}\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)

    done = subprocess.run([tmp_path / ".ci" / "words"], capture_output=True, text=True)

    assert (done.returncode, "page.md:2:" in done.stdout) == ((1, True) if BANNED[text] else (0, False))
