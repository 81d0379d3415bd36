"""``petkit doctor``: a sound installation is called sound, a damaged one is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from petkit.cli import main
from petkit.commands import doctor
from petkit.commands.doctor import Finding, examine
from petkit.models import loading as embedded_model

Doctor = Callable[..., tuple[int, str]]


@pytest.fixture
def ask_doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """``ask_doctor("--json")`` returns exit code and standard output of ``petkit doctor``."""

    def ask(*options: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["petkit", "doctor", *options])
        with pytest.raises(SystemExit) as leaving:
            main()
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, capsys.readouterr().out

    return ask


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes | None], None]:
    """``damaged("config.json", b"")`` makes petkit see an embedded model with that file changed, or removed (None)."""

    def damage(name: str, content: bytes | None) -> None:
        sound = embedded_model.embedded_folder()
        folder = tmp_path / "assets" / sound.name
        folder.mkdir(parents=True)
        for path in sound.iterdir():
            if path.name != name:
                (folder / path.name).symlink_to(path)
        if content is not None:
            (folder / name).write_bytes(content)
        monkeypatch.setattr(embedded_model, "files", lambda package: tmp_path)

    return damage


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the measurement of the processor."""
    monkeypatch.setattr(doctor, "matmul_seconds", lambda *_, **__: 1e-3)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_sound(ask_doctor: Doctor) -> None:
    code, out = ask_doctor("--json")

    reported: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in json.loads(out)}
    assert code == 0
    assert all(entry["healthy"] for entry in reported.values())
    assert {"petkit", "torch", "transformers", "device", "threads", "precision chosen"} <= set(reported)
    assert reported["embedded model"]["value"] == "minilm-mlm-en, checksums match"
    assert reported["forward pass"]["value"] == "'Paris is the capital of France.' → 'paris'"
    for dtype in ("float32", "bfloat16"):
        rate = reported[f"matrix product, {dtype}"]["value"].removesuffix(" GFLOP/s").replace(",", "")
        assert float(rate) > 0


@pytest.mark.usefixtures("quick")
def test_rate_of_the_processor() -> None:
    # 2 × 1024 × 384 × 1536 operations in a millisecond.
    assert by_name(examine())["matrix product, float32"].value == "1,208 GFLOP/s"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("name", "content", "reported"),
    [
        ("config.json", b"{}", "embedded model: config.json is damaged or missing (reinstall petkit)"),
        ("model.safetensors", None, "embedded model: model.safetensors is damaged or missing (reinstall petkit)"),
        ("SHA256SUMS", None, "embedded model: SHA256SUMS is missing (reinstall petkit)"),
    ],
    ids=["changed", "missing", "without checksums"],
)
def test_damaged_model(name: str, content: bytes | None, reported: str, damaged: Callable[..., None], ask_doctor: Doctor) -> None:
    damaged(name, content)

    code, out = ask_doctor()

    assert code == 1
    assert [line.split() for line in out.splitlines() if line.startswith("BAD")] == [
        ["BAD", "embedded", "model", *reported.split()]
    ]


@pytest.mark.usefixtures("quick")
def test_a_model_that_answers_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_fill_in", lambda device: "bread")

    finding = by_name(examine())["forward pass"]

    assert (finding.healthy, finding.value) == (False, "'Paris is the capital of France.' → 'bread'")


@pytest.mark.usefixtures("quick")
def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, ask_doctor: Doctor) -> None:
    monkeypatch.setattr(doctor, "package_versions", lambda: {"torch": "2.9", "datasets": "missing", "peft": "missing"})

    code, out = ask_doctor()

    bad = [line.split() for line in out.splitlines() if line.startswith("BAD")]
    assert (code, bad) == (1, [["BAD", "datasets", "missing"]])  # peft is optional
