"""A release is consistent, and ``tools/check_release.py`` notices when one is not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import petkit

ROOT = Path(__file__).resolve().parents[1]
FILES = ("pyproject.toml", "CHANGELOG.md", "CITATION.cff", "petkit/__init__.py", "tools/check_release.py")


def check(root: Path, *tag: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, root / "tools" / "check_release.py", *tag], capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_this_version_is_consistent() -> None:
    assert check(ROOT, f"v{petkit.__version__}").returncode == 0


@pytest.mark.parametrize(
    ("name", "before", "after", "problem"),
    [
        ("pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"', "CHANGELOG.md: version 0.1.0; pyproject.toml has 0.2.0"),
        ("CITATION.cff", "version: 0.1.0", "version: 0.0.9", "CITATION.cff: version 0.0.9; pyproject.toml has 0.1.0"),
        ("petkit/__init__.py", '"0.1.0"', '"0.1.1"', "petkit/__init__.py: version 0.1.1; pyproject.toml has 0.1.0"),
        ("CHANGELOG.md", " - 2026-11-30", "", "CHANGELOG.md: the section of 0.1.0 has no date"),
    ],
    ids=["project", "citation", "package", "changelog"],
)
def test_a_difference_is_reported(copy: Path, name: str, before: str, after: str, problem: str) -> None:
    text = (copy / name).read_text(encoding="utf-8")
    assert before in text
    (copy / name).write_text(text.replace(before, after, 1), encoding="utf-8")

    done = check(copy)

    assert (done.returncode, problem in done.stdout) == (1, True)


def test_another_tag_is_reported(copy: Path) -> None:
    assert check(copy, "v9.9.9").stdout == f"tag v9.9.9: expected v{petkit.__version__}\n"


@pytest.mark.parametrize(
    "name", [".github/workflows/ci.yml", ".github/dependabot.yml", ".pre-commit-config.yaml", "CITATION.cff"]
)
def test_yaml_parses(name: str) -> None:
    assert yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
