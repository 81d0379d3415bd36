"""The corpus of bad inputs: what each file of ``cases/`` may say, and how a case is laid out in a folder.

A case starts from the sound project of ``tests/cli/project.py`` (its model is the folder ``bert``) and says:

    name of the mistake:
      copy:    {run: RUN}                       folders put next to the project: finished ones, or models (see PLACES)
      edit:    {pipeline.yaml: {old: new}}      what is replaced in a file; the old text must be there exactly once
      files:   {train.jsonl: "text"}            whole files; null: the file is taken away
      bytes:   {train.jsonl: "caf\\xe9"}         whole files that are no UTF-8: each character is one byte
      links:   {run/stage_b: elsewhere}         symbolic links
      stdin:   text                             standard input; ``stdin_bytes`` as ``bytes``
      command: run pipeline.yaml                what is typed after ``petkit``
      same as: name of another case             where two mistakes are rightly reported in the same words
      stderr: |                                 all that is printed, each mistake with a hint; [...]: words of a library
        pipeline.yaml:9: max_length: must be … (…)
      stderr without hint: |                    the same, where a mistake says by itself what to do

The command leaves with exit code 2, says nothing on standard output, and changes no byte of the folder.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "cases"
PLACES = ("RUN", "PROMPT", "BERT", "ROBERTA", "GPT2")
MODEL = "bert"
LIBRARY_WORDS = "[...]"
_KEYS = {"copy", "edit", "files", "bytes", "links", "stdin", "stdin_bytes", "command", "same as", "stderr", "stderr without hint"}


@dataclass(frozen=True)
class Case:
    """One mistake; the attributes are those of the file format."""

    subject: str
    name: str
    command: str
    stderr: str
    copy: Mapping[str, str] = field(default_factory=dict)
    edit: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    files: Mapping[str, str | None] = field(default_factory=dict)
    bytes: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    same_as: str = ""
    hint: bool = True

    @property
    def id(self) -> str:
        return f"{self.subject}: {self.name}"

    @property
    def arguments(self) -> list[str]:
        """What the shell makes of the command."""
        return shlex.split(self.command)

    def lay_out(self, folder: Path, place: Callable[[str], Path]) -> None:
        """Break the sound project in ``folder``; ``place`` finds what is copied there."""
        for name, source in self.copy.items():
            shutil.copytree(place(source), folder / name, dirs_exist_ok=True)
        for name, changes in self.edit.items():
            text = (folder / name).read_text(encoding="utf-8")
            for old, new in changes.items():
                assert text.count(old) == 1, f"{name} contains {old!r} {text.count(old)} times"
                text = text.replace(old, new)
            (folder / name).write_text(text, encoding="utf-8")
        contents = {name: None if text is None else text.encode() for name, text in self.files.items()}
        contents |= {name: text.encode("latin-1") for name, text in self.bytes.items()}
        for name, content in contents.items():
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
            if content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        for name, target in self.links.items():
            path = folder / name
            path.unlink(missing_ok=True)
            path.symlink_to(target)

    def matches(self, stderr: str) -> bool:
        """Say whether standard error is what the case expects."""
        pattern = ".*".join(map(re.escape, self.stderr.split(LIBRARY_WORDS)))
        return re.fullmatch(pattern, stderr) is not None


def load_cases() -> list[Case]:
    """Return every case of every file, in order."""
    cases = []
    for path in sorted(FOLDER.glob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        cases += [_case(path.stem.replace("_", " "), name, entry) for name, entry in content.items()]
    return cases


def _case(subject: str, name: str, entry: Mapping[str, Any]) -> Case:
    unknown = set(entry) - _KEYS
    assert not unknown, f"{subject}: {name}: unknown {unknown}"
    stdin = entry.get("stdin", "").encode() or entry.get("stdin_bytes", "").encode("latin-1")
    plain = {key: entry[key] for key in ("copy", "edit", "files", "bytes", "links") if key in entry}
    assert set(plain.get("copy", {}).values()) <= set(PLACES), f"{subject}: {name}: copies {plain['copy']}"
    hint = "stderr" in entry
    stderr = entry["stderr" if hint else "stderr without hint"]
    return Case(subject, name, entry["command"], stderr, **plain, stdin=stdin, same_as=entry.get("same as", ""), hint=hint)
