"""Pipelines from files: grafting, paths, overrides, and every mistake at its own file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from petkit.config.loader import Pipeline, dump_spec, load_pipeline
from petkit.config.schema.pipeline import DataSpec, PatternSpec, PipelineSpec, VerbalizerSpec
from tests.config.pipelines import PATTERNS, PIPELINE, VERBALIZER, loaded, mistakes, with_lines, write


def test_files_become_one_specification(here: Path) -> None:
    spec = loaded(write(here))

    assert spec.task == "news"
    assert [pattern.id for pattern in spec.patterns] == ["topic-colon", "news-pair"]
    assert spec.patterns[1].segments == ("{mask} news:", "{text}")
    assert spec.labels == ("World", "Sports")
    assert spec.teachers.seeds == (1, 2)
    assert spec.teachers.learning_rate == 1e-5


def test_places_are_those_of_the_files_written(here: Path) -> None:
    pipeline = load_pipeline(write(here))

    assert str(pipeline.problem(("patterns", 1, "text"), "m", key="")) == "patterns/topic.yaml:5: m"
    assert str(pipeline.problem(("verbalizer", "labels", "Sports"), "m", key="")) == "verbalizers/news.yaml:3: m"
    assert str(pipeline.problem(("data", "train"), "m", "c")) == "pipelines/news.yaml:3: data.train: m (c)"
    assert str(pipeline.problem(("student", "steps"), "m")) == "pipelines/news.yaml:1: student.steps: m"


def test_specification_made_in_python_has_no_file() -> None:
    spec = PipelineSpec(
        task="news",
        data=DataSpec(train="a.jsonl", unlabeled="b.jsonl"),
        patterns=(PatternSpec(id="p", text="{mask} {text}"),),
        verbalizer=VerbalizerSpec(labels={"A": ("a",), "B": ("b",)}),
    )
    pipeline = Pipeline.from_spec(spec)

    assert str(pipeline.problem(("patterns", 0), "m")) == "specification: patterns.0: m"


def test_relative_paths_belong_to_the_file_that_names_them(here: Path) -> None:
    spec = loaded(write(here, with_lines("model: ./model", "student: {model: ../small}")))

    assert spec.data.train == str(here / "pipelines/data/train.jsonl")
    assert spec.model == str(here / "pipelines/model")
    assert spec.student_model == str(here / "small")


def test_hub_names_and_embedded_stay_as_written(here: Path) -> None:
    path = write(here, with_lines("model: org/roberta-base", "student: {model: embedded}"))
    spec = loaded(path, "data.train=hf://ag_news/train")

    assert (spec.model, spec.student_model, spec.data.train) == ("org/roberta-base", "embedded", "hf://ag_news/train")


def test_model_name_that_is_a_folder_beside_the_pipeline_is_that_folder(here: Path) -> None:
    path = write(here, with_lines("model: mine/model"))
    (here / "pipelines/mine/model").mkdir(parents=True)

    assert loaded(path).model == str(here / "pipelines/mine/model")


@pytest.mark.parametrize("name", ["~no_such_user_here/x.jsonl", '"a\\0b.jsonl"'])
def test_path_that_cannot_be_resolved_does_not_crash(here: Path, name: str) -> None:
    path = write(here, PIPELINE.replace("data/train.jsonl", name))

    assert loaded(path).data.train.endswith(".jsonl")


def test_several_pattern_files_follow_each_other(here: Path) -> None:
    path = write(here, PIPELINE.replace("../patterns/topic.yaml", "[../patterns/topic.yaml, more.yaml]"))
    (here / "pipelines/more.yaml").write_text('patterns:\n  - id: more\n    text: "{text} {mask} {text"\n')

    assert mistakes(path) == ["pipelines/more.yaml:3: pattern 'more': unbalanced '{' at column 15; write {{ for a plain brace"]


@pytest.mark.parametrize(
    ("patterns", "verbalizer", "reported"),
    [
        (None, VERBALIZER, ["pipelines/news.yaml:5: patterns: patterns/topic.yaml: no such file"]),
        (PATTERNS, None, ["pipelines/news.yaml:6: verbalizer: verbalizers/news.yaml: no such file"]),
        ("a: [", VERBALIZER, ["patterns/topic.yaml:1: not valid YAML: expected the node content, but found '<stream end>'"]),
        (PATTERNS, "", ["verbalizers/news.yaml:1: the file is empty"]),
        ("patterns: 5\n", VERBALIZER, ["patterns/topic.yaml:1: patterns: must contain a list under the key 'patterns'"]),
        ("patterns: []\n", VERBALIZER, ["pipelines/news.yaml:5: patterns: must not be empty"]),
        (
            f"{PATTERNS}labels: 1\n",
            VERBALIZER,
            ["patterns/topic.yaml:6: labels: unknown key (known: patterns)"],
        ),
        (
            PATTERNS.replace("text: [", "txt: ["),
            VERBALIZER,
            [
                "patterns/topic.yaml:4: patterns.1.text: required key is missing",
                "patterns/topic.yaml:5: patterns.1.txt: unknown key (did you mean 'text'?)",
            ],
        ),
        (
            PATTERNS.replace("{mask}:", "{mask}{mask}:").replace("{mask} news:", "{mask} {1} news:"),
            VERBALIZER,
            [
                "patterns/topic.yaml:3: pattern 'topic-colon': 2 times {mask}; a pattern has exactly one",
                "patterns/topic.yaml:5: pattern 'news-pair': {1} is not a field name; write {{ and }} for plain braces",
            ],
        ),
        (
            PATTERNS.replace("news-pair", "topic-colon"),
            VERBALIZER,
            ["patterns/topic.yaml:4: pattern id 'topic-colon' is used twice"],
        ),
        (PATTERNS, "labels:\n  World: [world]\n", ["verbalizers/news.yaml:1: 1 label; a classifier needs at least two"]),
        (
            PATTERNS,
            f"{VERBALIZER}  Games: [football, game, game]\n  None: []\n",
            [
                "verbalizers/news.yaml:4: 'football' is shared by labels 'Sports' and 'Games'",
                "verbalizers/news.yaml:4: label 'Games' lists 'game' twice",
                "verbalizers/news.yaml:5: label 'None' has no words",
            ],
        ),
        (
            PATTERNS,
            VERBALIZER.replace("World: [world]", "World: world"),
            ["verbalizers/news.yaml:2: verbalizer.labels.World: must be a list, not 'world'"],
        ),
        (
            PATTERNS,
            VERBALIZER.replace("[world]", "[world, '  ']"),
            ["verbalizers/news.yaml:2: verbalizer.labels.World.1: must not be empty"],
        ),
        (
            PATTERNS,
            VERBALIZER.replace("labels", "label"),
            [
                "verbalizers/news.yaml:1: verbalizer.label: unknown key (did you mean 'labels'?)",
                "verbalizers/news.yaml:1: names no labels (write each label with its words, or auto to have words found)",
            ],
        ),
    ],
)
def test_mistake_in_a_named_file_is_reported_there(
    here: Path, patterns: str | None, verbalizer: str | None, reported: list[str]
) -> None:
    assert sorted(mistakes(write(here, PIPELINE, patterns, verbalizer))) == sorted(reported)


def test_every_mistake_of_every_file_is_reported_once(here: Path) -> None:
    path = write(
        here,
        with_lines("student: {temprature: 2, steps: 0}").replace("[1, 2]", "[1, 1, x]"),
        PATTERNS.replace("id: news-pair", "id: topic-colon").replace("{mask} news", "{text} news") + "    colour: red\n",
        VERBALIZER.replace("[world]", "[world, 'sports', '']"),
    )

    assert sorted(mistakes(path)) == sorted(
        [
            "pipelines/news.yaml:8: teachers.seeds: the same seed twice would train the same teacher twice",
            "pipelines/news.yaml:8: teachers.seeds.2: must be a whole number, not 'x'",
            "pipelines/news.yaml:10: student.temprature: unknown key (did you mean 'temperature'?)",
            "pipelines/news.yaml:10: student.steps: must be greater than or equal to 1, not 0",
            "patterns/topic.yaml:4: pattern id 'topic-colon' is used twice",
            "patterns/topic.yaml:5: pattern 'topic-colon': no {mask}; the slot for the label word is missing",
            "patterns/topic.yaml:6: patterns.1.colour: unknown key (known: id, text, verbalizer)",
            "verbalizers/news.yaml:2: verbalizer.labels.World.2: must not be empty",
            "verbalizers/news.yaml:3: 'sports' is shared by labels 'World' and 'Sports'",
        ]
    )


def test_mistakes_between_values_are_reported_in_their_places(here: Path) -> None:
    path = write(
        here,
        with_lines("student: {r_drop_weight: 1}"),
        PATTERNS.replace("{mask}:", "mask:"),
        VERBALIZER.replace("[world]", "[sports]"),
    )

    assert sorted(mistakes(path)) == [
        "patterns/topic.yaml:3: pattern 'topic-colon': no {mask}; the slot for the label word is missing",
        "pipelines/news.yaml:10: student.r_drop_weight: compares two dropout passes, and dropout is 0 (set dropout: 0.1)",
        "verbalizers/news.yaml:3: 'sports' is shared by labels 'World' and 'Sports'",
    ]
    together = write(here, patterns=PATTERNS.replace("id: news-pair", "id: topic-colon"))
    assert mistakes(together, "keep_patterns=9") == [
        "patterns/topic.yaml:4: pattern id 'topic-colon' is used twice",
        "--set keep_patterns=9: keep_patterns: keeps 9 of 2 patterns (say all, or a smaller number)",
    ]


def test_mistake_without_a_key_hides_no_other(here: Path) -> None:
    path = write(here, patterns=PATTERNS.replace("{mask}:", "mask:"))

    assert mistakes(path, "nonsense") == [
        "--set nonsense: write --set key.path=value",
        "patterns/topic.yaml:3: pattern 'topic-colon': no {mask}; the slot for the label word is missing",
    ]


def test_patterns_and_verbalizer_may_stand_in_the_pipeline_itself(here: Path) -> None:
    text = PIPELINE.replace("../patterns/topic.yaml", '[{id: p, text: "{mask} {text}"}]')
    text = text.replace("../verbalizers/news.yaml", "{labels: {0: [no], 1: [yes]}}")
    spec = loaded(write(here, text, None, None))

    assert spec.patterns == (PatternSpec(id="p", text="{mask} {text}"),)
    assert spec.verbalizer.labels == {"0": ("no",), "1": ("yes",)}


LABELS = st.text(min_size=1, max_size=12)
WORDS = st.text(min_size=1, max_size=12).map(str.strip).filter(bool)


@given(st.dictionaries(LABELS, WORDS, min_size=2, max_size=4).filter(lambda found: len(set(found.values())) == len(found)))
def test_dumped_specification_loads_as_the_same(tmp_path_factory: pytest.TempPathFactory, labels: dict[str, str]) -> None:
    folder = tmp_path_factory.mktemp("dump")
    first = loaded(write(folder, with_lines("compute: {threads: 2}")))
    spec = first.model_copy(update={"verbalizer": VerbalizerSpec(labels={label: (word,) for label, word in labels.items()})})
    again = folder / "config.resolved.yaml"
    again.write_text(dump_spec(spec), encoding="utf-8")

    assert loaded(again) == spec
    assert list(loaded(again).labels) == list(labels)


@pytest.mark.parametrize(
    "text", ["no", "007", "1e5", "~", "null", "2024-01-31", " a ", "a: b", "# a", "Größe", "a\nb", "\x85\u2028"]
)
def test_dumped_text_stays_text(here: Path, text: str) -> None:
    spec = loaded(write(here))
    verbalizer = VerbalizerSpec(labels={text: ("good",), "other": (f"x{text}x",)})
    spec = spec.model_copy(update={"verbalizer": verbalizer, "data": spec.data.model_copy(update={"columns": {text: text}})})
    (here / "again.yaml").write_text(dump_spec(spec), encoding="utf-8")

    assert loaded(here / "again.yaml") == spec


@pytest.mark.parametrize("model", ["1e5", "08", "1.5", "no", "null", "a: b"])
def test_dumped_model_name_stays_text(here: Path, model: str) -> None:
    spec = loaded(write(here)).model_copy(update={"model": model})
    (here / "again.yaml").write_text(dump_spec(spec), encoding="utf-8")

    assert loaded(here / "again.yaml").model == model


def test_dump_holds_every_default(here: Path) -> None:
    text = dump_spec(loaded(write(here)))

    assert all(f"\n{key}:" in text for key in PipelineSpec.model_fields if key != "task")
    assert "weight_decay: 0.01" in text
