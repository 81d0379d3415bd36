"""Lists of a pipeline that name one thing twice are pointed out."""

from __future__ import annotations

from pathlib import Path

from petkit.commands.validate import repeated_settings
from petkit.config.loader import load_pipeline


def test_repeated_patterns_baselines_and_label_names(pipeline_file: Path) -> None:
    plain = load_pipeline(pipeline_file, []).spec
    patterns = (
        'patterns=[{id: one, text: "{mask}: {text}"}, {id: two, text: "{text} {mask}"}, {id: three, text: "{mask}: {text}"}]'
    )
    repeated = load_pipeline(pipeline_file, [patterns, "baselines=[tfidf, tfidf]"]).spec

    assert list(repeated_settings(plain)) == []
    assert list(repeated_settings(repeated)) == [
        "patterns 'one' and 'three' have the same text; their teachers differ by nothing",
        "baselines: 'tfidf' is listed more than once",
    ]
