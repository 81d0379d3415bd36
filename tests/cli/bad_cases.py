"""Mistakes as data, for ``test_bad_input``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RUN = ("run", "pipeline.yaml")
SPORTS = '{"text": "the team was good", "label": "Sports"}\n'
WORLD = '{"text": "the news of the world", "label": "World"}\n'
PICKLE = b"\x80\x04}q\x00."


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        told: what standard error must hold.
        edits: file → a part of it and what replaces that part.
        files: file → its new content; None removes it.
        model: file of a copy of the model folder → its new content; None removes it.
        lines: how many lines standard error must have; None: any number.
    """

    name: str
    told: tuple[str, ...]
    edits: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    arguments: tuple[str, ...] = RUN
    model: Mapping[str, bytes | None] | None = None
    stdin: bytes = b""
    lines: int | None = 1


def _pipeline(name: str, old: str, new: str, *told: str, lines: int | None = 1) -> Case:
    return Case(name, told, edits={"pipeline.yaml": (old, new)}, lines=lines)


def _pattern(name: str, text: str, *told: str) -> Case:
    return Case(
        name, ("patterns.yaml:3: pattern 'one'", *told), files={"patterns.yaml": f"patterns:\n  - id: one\n    text: {text}\n"}
    )


def _words(name: str, sports: str, *told: str) -> Case:
    return Case(name, told, files={"verbalizer.yaml": f"labels:\n  World: [world]\n  Sports: {sports}\n"})


def _train(name: str, rows: str | bytes, *told: str, lines: int | None = 1) -> Case:
    return Case(name, told, files={"train.jsonl": rows}, lines=lines)


def _set(name: str, *told: str) -> Case:
    return Case(f"--set {name}", told, arguments=(*RUN, "--set", name))


def _predict(
    name: str, *arguments: str, told: str, files: Mapping[str, str | bytes | None] | None = None, stdin: bytes = b""
) -> Case:
    return Case(name, (told,), arguments=("predict", *arguments), files=files or {}, stdin=stdin)


def _model(name: str, told: str, change: Mapping[str, bytes | None], *arguments: str) -> Case:
    return Case(name, (told,), model=change, arguments=arguments or (*RUN, "--set", "model=model"))


CONFIGURATION = (
    Case("pipeline file missing", ("nothing.yaml: no such file",), arguments=("run", "nothing.yaml")),
    Case("pipeline is a folder", ("folder, not a file",), arguments=("run", ".")),
    Case("pipeline empty", ("pipeline.yaml:1: the file is empty",), files={"pipeline.yaml": "# nothing\n"}),
    Case("pipeline is a list", ("pipeline.yaml:1: the top level must be a mapping",), files={"pipeline.yaml": "- task\n"}),
    Case("pipeline is no YAML", ("pipeline.yaml:2: not valid YAML",), files={"pipeline.yaml": "task: [a\nb: c\n"}),
    Case("pipeline in Latin-1", ("pipeline.yaml:2: not UTF-8",), files={"pipeline.yaml": b"task: a\nmodel: caf\xe9\n"}),
    _pipeline("unknown key", "steps: 2, batch_size: 4}\nstudent", "stepps: 2}\nstudent", "pipeline.yaml:10: teachers.stepps: unknown key (did you mean 'steps'?)"),
    _pipeline("unknown section", "max_length: 32", "max_lenght: 32", "pipeline.yaml:9: max_lenght: unknown key (did you mean 'max_length'?)"),
    _pipeline("wrong type", "max_length: 32", "max_length: many", "pipeline.yaml:9: max_length: must be a whole number, not 'many'"),
    _pipeline("out of range", "max_length: 32", "max_length: 2", "pipeline.yaml:9: max_length: must be greater than or equal to 8"),
    _pipeline("longer than the model reads", "max_length: 32", "max_length: 65", "pipeline.yaml:9: max_length: 65 tokens are more than"),
    _pipeline("negative steps", "student: {steps: 2", "student: {steps: -2", "pipeline.yaml:11: student.steps: must be"),
    _pipeline("duplicate key", "max_length: 32", "task: twice", "pipeline.yaml:9: key 'task' is written twice (first on line 1)"),
    _pipeline("required key missing", "  unlabeled: unlabeled.jsonl\n", "", "pipeline.yaml:2: data.unlabeled: required key is missing"),
    _pipeline("same seed twice", "seeds: [1]", "seeds: [1, 1]", "pipeline.yaml:10: teachers.seeds: the same seed twice"),
    _pipeline("pattern file missing", "patterns: patterns.yaml", "patterns: no.yaml", "pipeline.yaml:6: patterns: no.yaml: no such file"),
    _pipeline("verbalizer file missing", "verbalizer: verbalizer.yaml", "verbalizer: no.yaml", "pipeline.yaml:7: verbalizer: no.yaml: no such file"),
    Case(
        "three mistakes at once",
        ("pipeline.yaml:9: max_length", "patterns.yaml:3: pattern 'colon': no {mask}", "verbalizer.yaml:3: 'world' is shared by labels"),
        edits={
            "pipeline.yaml": ("max_length: 32", "max_length: 2"),
            "patterns.yaml": ('"{mask}: {text}"', '"{text}"'),
            "verbalizer.yaml": ("[sports, football]", "[world]"),
        },
        lines=3,
    ),
)  # fmt: skip

PATTERNS = (
    _pattern("no mask", '"{text} is news"', "no {mask}"),
    _pattern("two masks", '"{mask} or {mask}: {text}"', "2 times {mask}"),
    _pattern("no field", '"this is {mask}"', "no {field}"),
    _pattern("unknown field", '"{mask}: {txet}"', "unknown field {txet}; the data has: text (or map it: data.columns: {txet: its column})"),
    _pattern("unbalanced opening brace", '"{mask}: {text} {"', "unbalanced '{' at column 16; write {{"),
    _pattern("unbalanced closing brace", '"{mask}: text} {text}"', "unbalanced '}' at column 13; write }}"),
    _pattern("unknown filter", '"{mask}: {text|upper}"', "unknown filter 'upper'"),
    _pattern("three segments", '["{mask}", "{text}", "{text}"]', "a pattern has one or two segments, not 3"),
    _pattern("longer than a row", f'"{"very " * 40}{{mask}}: {{text}}"', "alone takes", "max_length is 32"),
    Case("pattern id twice", ("patterns.yaml:4: pattern id 'colon' is used twice",), edits={"patterns.yaml": ("id: brackets", "id: colon")}),
    Case("patterns without a list", ("patterns.yaml:1: patterns: must hold a list",), files={"patterns.yaml": "labels: {}\n"}, lines=None),
)  # fmt: skip

VERBALIZER = (
    _words("word of several tokens", "[footballs]", "verbalizer.yaml:3: label 'Sports': 'footballs' is", "tokens for", "'football'"),
    _words("unknown word", '["漢"]', "verbalizer.yaml:3: label 'Sports': '漢' is unknown to"),
    _words("empty word", '[""]', "verbalizer.yaml:3: verbalizer.labels.Sports.0: must not be empty"),
    _words("no words", "[]", "verbalizer.yaml:3: label 'Sports' has no words"),
    _words("words are no list", "sports", "verbalizer.yaml:3: verbalizer.labels.Sports: must be a list, not 'sports'"),
    _words("word shared by two labels", "[sports, world]", "verbalizer.yaml:3: 'world' is shared by labels 'World' and 'Sports'"),
    _words("same token as another label", "[World]", "verbalizer.yaml:3: label 'Sports': 'World' is the same token 'world' as 'world'"),
    Case("one label", ("verbalizer.yaml:1: 1 label; a classifier needs at least two",), files={"verbalizer.yaml": "labels:\n  World: [world]\n"}),
    Case("label twice", ("verbalizer.yaml:3: labels: key 'World' is written twice",), edits={"verbalizer.yaml": ("Sports:", "World:")}),
    Case(
        "label without rows",
        ("verbalizer.yaml:4: label 'Science' has no row in train.jsonl (add examples or remove the label)",),
        files={"verbalizer.yaml": "labels:\n  World: [world]\n  Sports: [sports]\n  Science: [science]\n"},
    ),
)  # fmt: skip

DATA = (
    _train("label not in the verbalizer", WORLD + SPORTS + '{"text": "a", "label": "Sport"}\n', "train.jsonl:3: label: label 'Sport' is not in the verbalizer (did you mean 'Sports'?)"),
    _train("label missing", WORLD + SPORTS + '{"text": "a"}\n', "train.jsonl:3: label: has no label"),
    _train("label of a wrong kind", WORLD + SPORTS + '{"text": "a", "label": [1]}\n', "train.jsonl:3: label: a label is text or a whole number"),
    _train("text empty", WORLD + '{"text": "  ", "label": "Sports"}\n', "train.jsonl:2: text: empty"),
    _train("text missing", WORLD + '{"txt": "a", "label": "Sports"}\n', "train.jsonl:2: text: missing (did you mean 'txt'?)"),
    _train("text is a number", WORLD + '{"text": 3, "label": "Sports"}\n', "train.jsonl:2: text: must be text, not 3"),
    _train("row is a list", WORLD + "[1]\n" + SPORTS, "train.jsonl:2: not a JSON object"),
    _train("two bad rows", '{"text": "", "label": "World"}\n{"text": "a", "label": "x"}\n', "train.jsonl:1: text: empty", "train.jsonl:2: label", lines=2),
    _train("file empty", "", "train.jsonl: the file holds no rows"),
    _train("file truncated", WORLD + '{"text": "the te', "train.jsonl:2: not valid JSON"),
    _train("file in Latin-1", WORLD.encode() + b'{"text": "caf\xe9", "label": "Sports"}\n', "train.jsonl:2: not UTF-8 (save the file as UTF-8)"),
    Case("data file missing", ("pipeline.yaml:3: data.train: train.jsonl: no such file",), files={"train.jsonl": None}),
    Case("unlabelled file empty", ("unlabeled.jsonl: the file holds no rows",), files={"unlabeled.jsonl": "\n\n"}),
    Case("unlabelled text empty", ("unlabeled.jsonl:2: text: empty",), files={"unlabeled.jsonl": '{"text": "a"}\n{"text": ""}\n'}),
    Case("test label unknown", ("test.jsonl:1: label: label 'x' is not in",), files={"test.jsonl": '{"text": "a", "label": "x"}\n'}),
    Case("Parquet truncated", ("bad.parquet: not a complete Parquet file",), files={"bad.parquet": b"PAR1\x00\x00"}, arguments=(*RUN, "--set", "data.unlabeled=bad.parquet")),
    Case("unknown kind of file", ("rows.xlsx: unknown kind of file 'xlsx'",), files={"rows.xlsx": b"PK"}, arguments=(*RUN, "--set", "data.test=rows.xlsx")),
)  # fmt: skip

MODELS = (
    _set("model=./nowhere", "--set model=./nowhere: model: ", "no such model folder"),
    _model("model is a pickle", "holds pickled weights, which can run code when loaded", {"model.safetensors": None, "pytorch_model.bin": PICKLE}),
    _model("model without weights", "model.safetensors is missing", {"model.safetensors": None}),
    _model("model without configuration", "config.json is missing", {"config.json": None}),
    _model("model configuration damaged", "config.json is not valid JSON", {"config.json": b'{"model_type": '}),
    _model("model weights damaged", "the weights are damaged", {"model.safetensors": b"\xff" * 64}),
    Case("classifier as language model", ("the checkpoint has no masked-LM head",), files={}, arguments=("run", "pipeline.yaml", "--set", "model=STUDENT")),
)  # fmt: skip

OPTIONS = (
    _set("nonsense", "--set nonsense: write --set key.path=value"),
    _set("=3", "--set =3: write --set key.path=value"),
    _set("teachers.stpes=3", "--set teachers.stpes=3: teachers.stpes: unknown key (did you mean 'steps'?)"),
    _set("teachers.steps=many", "--set teachers.steps=many: teachers.steps: must be a whole number"),
    _set("task.name=x", "is no mapping"),
    _set("teachers.seeds=[1", "not valid YAML"),
    Case("--force nonsense", ("--force: unknown 'nonsense' (one of stale, a, b, c, evaluation, all)",), arguments=(*RUN, "--force=nonsense")),
    Case("foreign folder", ("foreign: is not empty and holds no petkit run",), files={"foreign/mine.txt": "x"}, arguments=(*RUN, "--out", "foreign")),
    Case("--out is a file", ("train.jsonl: is a file, not a folder",), arguments=(*RUN, "--out", "train.jsonl")),
    Case("foreign manifest", ("manifest.json was not written by this version",), files={"foreign/manifest.json": "{}"}, arguments=(*RUN, "--out", "foreign")),
    Case("init into a full folder", (".: already exists and is not empty",), arguments=("init", ".", "--labels", "a,b")),
    Case("init below a file", ("train.jsonl/new: cannot be written",), arguments=("init", "train.jsonl/new", "--labels", "a,b")),
    Case("init without labels", ("--labels: give two or more different labels",), arguments=("init", "new")),
    Case("init with one label twice", ("--labels: give two or more",), arguments=("init", "new", "--labels", "a, a")),
    Case("init from nothing", ("no.csv: no such file",), arguments=("init", "new", "--from", "no.csv")),
    Case("init without a label column", ("unlabeled.jsonl:1: cannot tell which column is the label; it has: text",), arguments=("init", "new", "--from", "unlabeled.jsonl")),
    Case("init with a label that has no row", ("train.jsonl: label: has no row with label 'Wrld' (did you mean 'World'?)",), arguments=("init", "new", "--from", "train.jsonl", "--labels", "Wrld,Sports")),
)  # fmt: skip

PREDICTION = (
    _predict("predict without text", "RUN", told="give texts, or --input FILE"),
    _predict("predict with text and file", "RUN", "a", "--input", "test.jsonl", told="give texts, or --input FILE"),
    _predict("predict --with nonsense", "RUN", "a", "--with", "nonsense", told="--with: unknown 'nonsense' (student or teachers)"),
    _predict("predict in a folder that is no model", ".", "a", told="is no model folder"),
    _predict("predict in no folder", "nowhere", "a", told="nowhere: no such run or model folder"),
    _predict("predict with teachers of a model", "RUN/stage_c/model", "a", "--with", "teachers", told="only a run folder holds teachers"),
    _predict("predict an empty text", "RUN", "a", " ", told="text 2: empty"),
    _predict("predict a missing file", "RUN", "--input", "no.csv", told="no.csv: no such file"),
    _predict("predict an unknown kind of file", "RUN", "--input", "no.doc", told="no.doc: unknown kind of file 'doc'"),
    _predict("predict into an unknown kind of file", "RUN", "a", "--output", "o.xls", told="o.xls: --output: unknown kind 'xls'"),
    _predict("predict into no folder", "RUN", "a", "--output", "no/o.csv", told="no/o.csv: --output: cannot be written"),
    _predict("predict into a folder", "RUN", "a", "--output", "d.csv", told="d.csv: --output: is a folder", files={"d.csv/x": ""}),
    _predict("predict a bad row", "RUN", "--input", "b.csv", told="b.csv:3: text: empty", files={"b.csv": 'text,x\na,1\n"",2\n'}),
    _predict("predict a wrong column", "RUN", "--input", "b.csv", told="b.csv:2: text: missing (did you mean 'texts'?)", files={"b.csv": "texts\na\n"}),
    _predict("stdin not UTF-8", "RUN", "--input", "-", told="standard input:2: not UTF-8", stdin=b"a\n\xff\n"),
    _predict("stdin JSON cut off", "RUN", "--input", "-", told="standard input:3: not valid JSON", stdin=b'\n{"text": "a"}\n{"text": \n'),
    _predict("stdin JSON without text", "RUN", "--input", "-", told="standard input:1: text: missing", stdin=b'{"txt": "a"}\n'),
    _predict("stdin JSON empty text", "RUN", "--input", "-", told="standard input:1: text: empty", stdin=b'{"text": " "}\n'),
    _predict("stdin JSON number", "RUN", "--input", "-", told="standard input:1: text: must be text, not 3", stdin=b'{"text": 3}\n'),
    _predict("stdin half a character", "RUN", "--input", "-", told="standard input:1: text: holds half a character", stdin=b'{"text": "\\ud800"}\n'),
    Case("evaluate an unknown label", ("u.jsonl:1: label: label 'Sport' is not in the verbalizer (did you mean 'Sports'?)",), files={"u.jsonl": '{"text": "a", "label": "Sport"}\n'}, arguments=("evaluate", "RUN", "u.jsonl")),
    Case("evaluate rows without labels", ("unlabeled.jsonl: label: has no label, in all ",), arguments=("evaluate", "RUN", "unlabeled.jsonl"), lines=None),
    Case("evaluate an empty file", ("u.jsonl: the file holds no rows",), files={"u.jsonl": ""}, arguments=("evaluate", "RUN", "u.jsonl")),
    Case("evaluate --with nonsense", ("--with: unknown 'x'",), arguments=("evaluate", "RUN", "test.jsonl", "--with", "x")),
    _model("predict with a language model", "model: is no sequence classifier", {}, "predict", "model", "a"),
)  # fmt: skip

CASES = (*CONFIGURATION, *PATTERNS, *VERBALIZER, *DATA, *MODELS, *OPTIONS, *PREDICTION)
