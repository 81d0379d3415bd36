"""What users may import: the names of ``__all__``, pinned, so that removing one is a decision."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

NAMES = {
    "petkit": """IncompleteRun InvalidInput ModelRefused PetkitError PipelineSpec Prediction Predictor RunConflict RunResult
        __version__ load_pipeline run""",
    "petkit.losses": """DIVERGENCES LOSSES auxiliary balanced_class_weights binary_cross_entropy binary_distillation consistency
        cross_entropy decoupled_label distillation feature_distillation hinge info_nce jensen_shannon label_conditioning masked_lm
        mutual_information_bound next_token_cross_entropy r_drop reverse_distillation student_loss supervised_contrastive""",
    "petkit.metrics": """CandidateMetrics Comparison Decision LabelMetrics Metrics MultiLabelMetrics OrdinalMetrics SingleLabelMetrics answer_f1 compare
        cross_entropy entropy evaluate evaluate_candidates jensen_shannon jensen_shannon_distance kl_divergence mutual_information perplexity
        verdict""",
    "petkit.prompts": """CompiledPattern Encoded LabelWords PVP Pattern PieceTokenizer compile_pvp find_label_words share_room
        shorten task_fields""",
}


@pytest.mark.parametrize("package", NAMES)
def test_exported_names(package: str) -> None:
    module = importlib.import_module(package)

    assert sorted(module.__all__) == sorted(NAMES[package].split())
    assert all(getattr(module, name).__doc__ for name in module.__all__ if name != "__version__")


def test_packages_without_models_import_no_torch() -> None:
    packages = [package for package in NAMES if package not in ("petkit", "petkit.losses")]
    code = f"import sys, {', '.join(packages)}; print(sorted({{'torch', 'transformers'}} & sys.modules.keys()))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_listen_is_an_alias_of_on_event(monkeypatch: pytest.MonkeyPatch) -> None:
    import petkit
    from petkit import api
    from petkit.config.schema.pipeline import PipelineSpec

    passed: list[object] = []
    monkeypatch.setattr(api, "prepare", lambda *_, **__: None)
    monkeypatch.setattr(api, "run_pipeline", lambda _, on_event: passed.append(on_event))
    spec = PipelineSpec.model_construct(task="t")

    petkit.run(spec, listen=passed.append)

    assert passed == [passed.append]
    with pytest.raises(TypeError, match="listen is an alias of on_event"):
        petkit.run(spec, listen=passed.append, on_event=passed.append)
