"""Label words found on the few-shot examples: planted ones are found, and scores are those of the naive form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from petkit.config.schema.pipeline import VerbalizerSpec
from petkit.engine.device import Device
from petkit.errors import InvalidInput
from petkit.models.batch import collate
from petkit.models.loading import load_masked_lm
from petkit.prompt_search import label_words as verbalizer_search
from petkit.prompt_search.label_words import SearchResult, search_label_words
from petkit.task.task import Task
from tests.tiny import tiny_model_folder, tiny_tokenizer
from tests.tiny_task import LABEL_WORDS, TOPICS, load, rows, write_rows, write_task

Folder = Callable[[str], Path]
DEVICE = Device("cpu", "float32", 1)
AUTO = "verbalizer={auto: {per_label: 1}}"
JOINT = "verbalizer={auto: {per_label: 2, scope: joint}}"
PLANTED = {"Sports": "football", "Science": "science", "World": "world"}


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task whose model says ``football`` where it reads ``game`` or ``team``, and so on; the rows name no such word.

    Every position looks at all others alike (no queries), and nothing but their embeddings' mean gets to the mask. The
    words of a topic share a direction; the planted word goes further in it than those that the rows hold.
    """
    folder = tmp_path_factory.mktemp("planted")
    model = load_masked_lm(str(tiny_model_folder("bert", folder / "model")))
    vocabulary = tiny_tokenizer("wordpiece").get_vocab()
    with torch.no_grad():
        for layer in model.base_model.encoder.layer:
            attention = layer.attention
            for linear in (attention.self.query, attention.self.key, layer.output.dense):
                linear.weight.zero_()
            for linear in (attention.self.value, attention.output.dense):
                nn.init.eye_(linear.weight)
        nn.init.eye_(model.cls.predictions.transform.dense.weight)
        embeddings = model.get_input_embeddings().weight
        for direction, (label, indicators) in enumerate(TOPICS.items()):
            for word, length in [(word, 1) for word in indicators.split()] + [(PLANTED[label], 3)]:
                embeddings[vocabulary[word]] = length * torch.eye(32)[direction]
    model.save_pretrained(folder / "model")
    path = write_task(folder, folder / "model")
    write_rows(folder / "unlabeled.jsonl", rows(30, 30) + [{"text": f"the {word}", "id": word} for word in PLANTED.values()])
    return path


@pytest.fixture(scope="session")
def random_task(tmp_path_factory: pytest.TempPathFactory, model_folder: Folder) -> Path:
    """The tiny task with a random RoBERTa, for which a word is another token at the start of a text."""
    return write_task(
        tmp_path_factory.mktemp("random"),
        model_folder("roberta"),
        patterns={"start": "{mask} news: {text}", "end": "{text} {mask}"},
    )


def find(path: Path, *overrides: str, named: VerbalizerSpec | None = None) -> SearchResult:
    return search_label_words(Task.checked(load(path, *overrides)), DEVICE, named=named)


def written(found: SearchResult) -> dict[str, dict[str, list[str]]]:
    return {
        pattern: {label: [word for word, _ in words] for label, words in labels.items()}
        for pattern, labels in found.words.items()
    }


@pytest.mark.parametrize("scope", ["pattern", "joint"])
def test_planted_words_are_found(scope: str, planted: Path) -> None:
    found = find(planted, f"verbalizer={{auto: {{per_label: 1, scope: {scope}}}}}")

    words = {label: [word] for label, word in sorted(PLANTED.items())}
    assert written(found) == {"colon": words, "brackets": words}
    assert all(scored[0].score > 0.1 for labels in found.words.values() for scored in labels.values())


def test_next_come_the_words_of_the_rows(planted: Path) -> None:
    found = find(planted, "verbalizer={auto: {per_label: 3}}")

    for labels in written(found).values():
        assert {label: (words[0], set(words[1:])) for label, words in labels.items()} == {
            label: (PLANTED[label], set(TOPICS[label].split())) for label in PLANTED
        }


def naive_odds(task: Task, pattern: int) -> list[np.ndarray]:
    """Log-odds of every token at the mask, from whole forward passes, row by row, in float64; rows by label."""
    model, pvp = load_masked_lm(task.spec.model), task.pvps[pattern]
    by_label: list[list[np.ndarray]] = [[] for _ in task.labels]
    for row, example in enumerate(task.train):
        batch = collate([pvp.encode(task.tokens("train").row(row))], task.tokenizer)
        with torch.no_grad():
            q = model(**batch.model_inputs).logits[0, batch.mask_positions[0]].double().softmax(0)
        by_label[example.labels[0]].append((q / (1 - q)).log().numpy())
    return [np.stack(rows_of_label) for rows_of_label in by_label]


def naive_scores(task: Task, pattern: int) -> np.ndarray:
    """Equation 7 divided by the label's rows, shape ``(labels, vocabulary)``."""
    odds, found = naive_odds(task, pattern), []
    for label, own in enumerate(odds):
        rest = np.concatenate([other for number, other in enumerate(odds) if number != label])
        found.append((own.sum(0) - len(own) / len(rest) * rest.sum(0)) / len(own))
    return np.stack(found)


def seen_words(task: Task) -> set[str]:
    """The words of the unlabelled rows that are not the first of their row; there RoBERTa has other tokens."""
    words = {word for row in task.rows("unlabeled") for word in row.fields["text"].split()[1:]}
    return {word for word in words if len(task.tokenizer.word_tokens(word, " ")) == 1}


@pytest.mark.parametrize("overrides", [AUTO, JOINT])
def test_scores_are_those_of_the_naive_form(overrides: str, random_task: Path) -> None:
    task = Task.checked(load(random_task, overrides))
    found = search_label_words(task, DEVICE)

    verbalizers = {
        pattern: VerbalizerSpec(labels={label: tuple(word for word, _ in words) for label, words in chosen.items()})
        for pattern, chosen in found.words.items()
    }
    narrow = task.narrowed(list(verbalizers), verbalizers)  # every word is found again where it is used
    naive = [naive_scores(task, pattern) for pattern in range(2)]
    for pattern, pvp in enumerate(narrow.pvps):
        for label, words in enumerate(pvp.words.words):
            scores = [word.score for word in found.words[pvp.id][task.labels[label]]]
            tokens = [[other.words.words[label][rank].token_ids[0] for rank in range(len(words))] for other in narrow.pvps]
            own = naive[pattern][label, tokens[pattern]]
            expected = own if overrides == AUTO else naive[0][label, tokens[0]] + naive[1][label, tokens[1]]
            np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-5)
    if overrides == JOINT:
        assert found.words["start"] == found.words["end"]
        assert narrow.pvps[0].words.token_ids != narrow.pvps[1].words.token_ids


def test_no_better_word_was_passed_over(random_task: Path) -> None:
    task = Task.checked(load(random_task, "verbalizer={auto: {per_label: 2}}"))
    found = search_label_words(task, DEVICE)
    chosen = {word for words in found.words["end"].values() for word, _ in words}
    others = [task.tokenizer.word_tokens(word, " ")[0] for word in seen_words(task) - chosen]

    assert len(chosen) == 6 and len(others) > 5
    for scores, words in zip(naive_scores(task, 1), found.words["end"].values(), strict=True):
        assert scores[others].max() < words[-1].score


@pytest.mark.parametrize("overrides", [AUTO, JOINT])
def test_order_of_rows_and_names_of_labels_change_nothing(
    overrides: str, planted: Path, model_folder: Folder, here: Path
) -> None:
    new_names = dict(zip(sorted(TOPICS), ["z", "y", "x"], strict=True))
    path = write_task(here / "other", planted.parent / "model")
    for name, count in (("train", 9), ("unlabeled", 30)):
        shuffled = np.random.default_rng(1).permutation(np.array(rows(count, count), object))
        write_rows(path.parent / f"{name}.jsonl", [{**row, "label": new_names[row["label"]]} for row in shuffled])
    write_rows(path.parent / "same.jsonl", rows(30, 30))
    overrides = overrides.replace("{auto: {", "{auto: {candidates: 20, ")

    first = find(planted, overrides, f"data.unlabeled={path.parent / 'same.jsonl'}")
    second = find(path, overrides, "data.test=null")

    for pattern, labels in first.words.items():
        assert list(second.words[pattern]) == ["x", "y", "z"]
        for label, words in labels.items():
            others = second.words[pattern][new_names[label]]
            assert [word for word, _ in others] == [word for word, _ in words]
            assert [score for _, score in others] == pytest.approx([score for _, score in words], abs=1e-5)


def test_the_same_again_whatever_the_precision_and_the_batches(random_task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find(random_task, JOINT)

    assert find(random_task, JOINT) == first
    assert search_label_words(Task.checked(load(random_task, JOINT)), Device("cpu", "bfloat16", 1)) == first
    monkeypatch.setattr(verbalizer_search, "_LOGITS_AT_ONCE", 1)
    one_by_one = find(random_task, JOINT)
    assert written(one_by_one) == written(first)
    assert written(find(random_task, JOINT, "compute.tokens_per_batch=20")) == written(first)


def test_progress_counts_every_row_in_every_pattern_once(planted: Path) -> None:
    reported: list[tuple[int, int]] = []

    search_label_words(Task.checked(load(planted, AUTO)), DEVICE, lambda done, total: reported.append((done, total)))

    assert reported[-1] == (18, 18)
    assert [done for done, _ in reported] == sorted({done for done, _ in reported})


def test_soft_tokens_start_the_same_every_time(planted: Path) -> None:
    patterns = (
        "long, text: '{soft:3} {mask} : {text}'",
        "soft, text: '{mask} {soft:2} : {text}'",
        "colon, text: '{mask} : {text}'",
    )
    soft = f"patterns=[{', '.join(f'{{id: {pattern}}}' for pattern in patterns)}]"
    torch.manual_seed(5)
    before = torch.random.get_rng_state()

    first = find(planted, AUTO, soft)

    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert find(planted, AUTO, soft) == first
    assert first.words["soft"] == find(planted, AUTO, "patterns=[{id: soft, text: '{mask} {soft:2} : {text}'}]").words["soft"]
    assert first.words["colon"] == find(planted, AUTO, "patterns=[{id: colon, text: '{mask} : {text}'}]").words["colon"]


def test_scores_of_named_words(planted: Path) -> None:
    named = VerbalizerSpec(labels={"Sports": ("Football", "hockey"), "Science": ("science",), "World": ("all",)})

    found = find(planted, "verbalizer={auto: {per_label: 1, scope: joint}}", named=named)

    assert {label: [word for word, _ in words] for label, words in found.named.items()} == {
        "Science": ["science"], "Sports": ["Football"], "World": ["all"],
    }  # fmt: skip
    assert found.named["Sports"][0].score == found.words["colon"]["Sports"][0].score
    assert found.named["World"][0].score < found.words["colon"]["World"][0].score
    apart = find(planted, AUTO, named=named)
    assert apart.named == found.named  # sums over all patterns, whatever the scope
    by_pattern = [labels["Science"][0].score for labels in apart.words.values()]
    assert sum(by_pattern) == pytest.approx(found.named["Science"][0].score)


def test_words_the_model_hardly_ever_says_are_not_offered(random_task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each label is offered its three most probable words, for three labels may need so many."""
    freely = find(random_task, AUTO)
    monkeypatch.setattr(verbalizer_search, "OFFERED", 1)
    found = find(random_task, AUTO)

    task = Task.checked(load(random_task, AUTO))
    tokens = {word: task.tokenizer.word_tokens(word, " ")[0] for word in seen_words(task)}
    for odds, words in zip(naive_odds(task, 1), found.words["end"].values(), strict=True):
        mean = odds.mean(axis=0)
        assert words[0].word in sorted(tokens, key=lambda word: -mean[tokens[word]])[:3]
    assert written(found)["end"] != written(freely)["end"]


@pytest.mark.parametrize(
    ("overrides", "reported"),
    [
        (
            ("verbalizer={auto: {per_label: 20}}",),
            [
                f"31 words can be tried in pattern {name!r}; 3 labels of 20 words need 60 (lower per_label)"
                for name in ("colon", "brackets")
            ],
        ),
        (
            ("verbalizer={auto: {per_label: 20, scope: joint}}",),
            ["31 words can be tried in every pattern; 3 labels of 20 words need 60 (lower per_label)"],
        ),
    ],
    ids=["per pattern", "joint"],
)
def test_too_few_words(overrides: tuple[str, ...], reported: list[str], planted: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        find(planted, *overrides)

    expected = [f"--set {overrides[0]}: verbalizer.auto: {line}" for line in reported]
    assert [str(problem) for problem in refused.value.problems] == expected


def test_too_few_candidates_are_seen_before_any_work(planted: Path) -> None:
    with pytest.raises(InvalidInput, match="candidates: 8 candidates are too few: 3 labels of 3 words need 9"):
        Task.checked(load(planted, "verbalizer={auto: {candidates: 8, per_label: 3}}"))


@pytest.mark.parametrize("section", ["teachers={", "student={hard_weight: 0.5, "])
def test_class_weights_of_labels_that_train_does_not_have(section: str, planted: Path) -> None:
    with pytest.raises(InvalidInput, match=r"class_weights\.Sport: label 'Sport' is not a label of data.train"):
        Task.checked(load(planted, AUTO, f"{section}class_weights: {{Sport: 2, World: 3}}}}"))


def test_labels_of_the_task_are_those_of_train(planted: Path) -> None:
    empty = "verbalizer={labels: {World: [], Sports: [], Science: []}, auto: {per_label: 1}}"

    assert list(find(planted, empty).words["colon"]) == ["World", "Sports", "Science"]
    assert sorted(LABEL_WORDS) == list(find(planted, AUTO).words["colon"])
