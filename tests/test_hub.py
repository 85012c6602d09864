"""Cards and pushing; the Hub itself is replaced by a recorder (an HTTP stand-in belongs to publishing corpora)."""

from __future__ import annotations

import huggingface_hub
import pytest
from huggingface_hub import ModelCard

from seqmm.config import DataArguments, EvalArguments, HubArguments, RunConfig, TrainArguments
from seqmm.hub import from_pretrained, local_folder, publish_corpus, publish_model
from seqmm.training.run import fit
from tests.cases import CASES


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "bpr"
    corpus = CASES["bpr"].corpus()
    model = CASES["bpr"].model(corpus)
    run = RunConfig(
        model.config,
        DataArguments("org/somewhere"),
        TrainArguments(str(folder), epochs=1, batch_size=64),
        EvalArguments(test=True),
        HubArguments(),
    )
    fit(run, model, corpus, recipe="train")
    return folder


def test_the_card_holds_results_corpus_and_how_to_load(run_folder):
    card = ModelCard.load(run_folder / "README.md")
    names = {result.metric_name for result in card.data.eval_results}
    assert {"recall@5", "ndcg@20"} <= names
    assert {result.dataset_split for result in card.data.eval_results} == {"validation", "test"}
    assert card.data.library_name == "seqmm" and card.data.license == "apache-2.0"
    assert from_pretrained(str(run_folder)).config.corpus["fingerprint"] in card.text


class _Recorder:
    calls: list = []

    def create_repo(self, repo_id, **options):
        self.calls.append(("create", repo_id, options))
        return f"hub/{repo_id}"

    def upload_folder(self, **options):
        self.calls.append(("upload", options))


def test_publishing_uploads_what_is_needed_and_no_training_state(run_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub, "HfApi", _Recorder)
    assert publish_model(run_folder, "org/bpr") == "hub/org/bpr"
    (create, upload) = _Recorder.calls[-2:]
    assert create == ("create", "org/bpr", {"private": True, "exist_ok": True})
    assert {"config.json", "model.safetensors", "README.md", "run.yaml", "metrics.json"} == set(
        upload[1]["allow_patterns"]
    )
    assert all((run_folder / name).is_file() for name in upload[1]["allow_patterns"])
    CASES["sasrec"].corpus().save(tmp_path / "corpus")
    publish_corpus(tmp_path / "corpus", "org/corpus", private=False)
    assert _Recorder.calls[-2][2]["repo_type"] == "dataset" and not _Recorder.calls[-2][2]["private"]
    with pytest.raises(FileNotFoundError, match="not a prepared corpus"):
        publish_corpus(tmp_path, "org/corpus")


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no config.json"):
        from_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="'bert' is not one of seqmm's"):
        from_pretrained(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="form org/name"):
        local_folder("./nowhere/at/all")
    with pytest.raises(FileNotFoundError, match="could be fetched from the Hub"):
        local_folder("org/nowhere")
