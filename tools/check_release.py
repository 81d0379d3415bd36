"""Check that the version of the package, the newest changelog section and the tag (if given) are the same.

    python tools/check_release.py [v0.1.0]

Run before a release is tagged, and again for the tag; prints what differs and exits with 1.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def problems(root: Path, tag: str | None = None) -> list[str]:
    """Return what is inconsistent in the repository at ``root``."""
    version = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    module = re.search(r'^__version__ = "(.+)"$', (root / "petkit" / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    citation = re.search(r"^version: (.+)$", (root / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", changelog, re.MULTILINE)
    newest, date = next(((name, date) for name, date in sections if name != "Unreleased"), ("", ""))
    found = []
    for where, stated in [
        ("petkit/__init__.py", module and module[1]),
        ("CITATION.cff", citation and citation[1]),
        ("CHANGELOG.md", newest),
    ]:
        if stated != version:
            found.append(f"{where}: version {stated or 'missing'}; pyproject.toml has {version}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        found.append(f"CHANGELOG.md: the section of {newest} has no date (write ## [{newest}] - YYYY-MM-DD)")
    if tag is not None and tag != f"v{version}":
        found.append(f"tag {tag}: expected v{version}")
    return found


if __name__ == "__main__":
    differing = problems(Path(__file__).resolve().parents[1], *sys.argv[1:2])
    print("\n".join(differing) or "version, changelog and tag agree")
    sys.exit(bool(differing))
