"""A run names the corpus it used, is repeated by its run.yaml, and is the same twice from Python."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
import yaml

from seqmm.arguments import EvalArguments, TrainArguments
from seqmm.data.corpus import Corpus
from seqmm.data.joining import concat_corpora
from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.collaborative.bpr import BPR, BPRConfig
from seqmm.models.making import make_model
from seqmm.models.sequential.msm4sr import MSM4SRForPretraining
from seqmm.registry import MODELS
from seqmm.run.opening import open_corpus
from seqmm.run.run import Run
from seqmm.run.settings import load_run
from seqmm.training.trainer import Trainer

TRAIN = TrainArguments(epochs=2, batch_size=64, learning_rate=0.01)


def fitted(corpus, folder, **options):
    run = Run.of("bpr", corpus, train=replace(TRAIN, output_dir=str(folder), **options), hidden_size=8)
    return run, run.fit()


def test_the_same_script_twice_gives_equal_numbers(tmp_path):
    """The seed seeds the weights from Python too, whatever was drawn before."""
    corpus = synthetic_corpus(80, 50)
    torch.manual_seed(5)
    first, ours = fitted(corpus, tmp_path / "a")
    torch.manual_seed(6)
    second, theirs = fitted(corpus, tmp_path / "b")
    assert ours["validation"] == theirs["validation"]
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    other, _ = fitted(corpus, tmp_path / "c", seed=1)
    assert not torch.equal(first.model.item.weight, other.model.item.weight)
    model = make_model("bpr", corpus, hidden_size=8, seed=0)
    Trainer(model, corpus, TRAIN, evaluator=first.evaluator("validation")).train()
    assert torch.equal(model.item.weight, second.model.item.weight), "a trainer by hand gives the run's weights"


def test_run_yaml_names_the_corpus_that_was_used(tmp_path, caplog):
    synthetic_corpus(80, 50, protocol="given").save(tmp_path / "shop")
    corpus = Corpus.load(tmp_path / "shop", protocol="given", features=("text",))
    with caplog.at_level(logging.INFO, "seqmm"):
        run, metrics = fitted(corpus, tmp_path / "run")
    assert "best epoch" in caplog.text and "written to" in caplog.text, "the library logs"
    written = yaml.safe_load((tmp_path / "run/run.yaml").read_text())["data"]
    assert (written["path"], written["protocol"], written["features"]) == (str(tmp_path / "shop"), "given", ["text"])
    again = load_run(["--config", str(tmp_path / "run/run.yaml"), "--train.output-dir", str(tmp_path / "again")])
    assert Run(again).fit()["validation"] == metrics["validation"]
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "again/model.safetensors").read_bytes()


def test_a_corpus_made_in_memory_is_not_called_the_default_one(tmp_path):
    corpus = synthetic_corpus(80, 50)
    fitted(corpus, tmp_path / "run")
    text = (tmp_path / "run/run.yaml").read_text()
    assert "made in memory" in text and corpus.fingerprint() in text
    assert yaml.safe_load(text)["data"]["path"] is None
    with pytest.raises(ValueError, match="made in memory and lies in no folder; save it"):
        Run(load_run(["--config", str(tmp_path / "run/run.yaml")]))


def test_joined_corpora_are_named_each(tmp_path):
    for name, seed in (("one", 0), ("two", 1)):
        replace(synthetic_corpus(80, 50, seed=seed), name=name).save(tmp_path / name)
    parts = [Corpus.load(tmp_path / name, features=("text",)) for name in ("one", "two")]
    run = Run.of("bpr", concat_corpora(parts), train=TRAIN, eval=EvalArguments(test=True))
    data = run.settings.data
    assert (data.path, data.joined) == (str(tmp_path / "one"), (str(tmp_path / "two"),))
    assert open_corpus(data)[0].fingerprint() == run.corpus.fingerprint()
    assert run.output.parts[0] == "runs", "no folder was given"


def test_a_run_is_of_a_name_a_class_or_a_config(tmp_path):
    corpus = synthetic_corpus(80, 50)
    train = replace(TRAIN, output_dir=str(tmp_path))
    runs = [Run.of("bpr", corpus, train=train, hidden_size=8), Run.of(BPR, corpus, train=train, hidden_size=8)]
    runs.append(Run.of(BPRConfig(hidden_size=8), corpus, train=train))
    assert len({str(run.settings.to_dict()) for run in runs}) == 1 and runs[1].model.config.hidden_size == 8
    for make in (Run.of, make_model):
        with pytest.raises(ValueError, match="hidden_size: a config was given, which holds the options already"):
            make(BPRConfig(), corpus, hidden_size=8)
    with pytest.raises(ValueError, match="MSM4SRForPretraining is for pretraining: give train.objective 'pretraining'"):
        Run.of(MSM4SRForPretraining, corpus, train=train)
    pretraining = Run.of(MSM4SRForPretraining, corpus, train=replace(train, objective="pretraining"))
    assert isinstance(pretraining.model, MSM4SRForPretraining)


def test_run_yaml_of_a_class_of_ones_own_says_the_plugin(tmp_path, monkeypatch):
    monkeypatch.setattr(MODELS, "_classes", {name: [*classes] for name, classes in MODELS._classes.items()})
    config = type("OwnConfig", (BPRConfig,), {"model_type": "own", "__module__": "own"})
    own = type("Own", (BPR,), {"config_class": config, "__module__": "own"})
    train = replace(TRAIN, output_dir=str(tmp_path), epochs=1)
    Run.of(own, synthetic_corpus(80, 50), train=train).fit()
    text = (tmp_path / "run.yaml").read_text()
    assert text.startswith(
        f"# accelerate launch recipes/train.py --config {tmp_path}/run.yaml --plugin own:Own --train.overwrite True\n"
    )
    assert text.count("--plugin own:Own") == 2 and "model_type: own\n" in text
    fitted(synthetic_corpus(80, 50), tmp_path / "bpr")
    assert "--plugin" not in (tmp_path / "bpr/run.yaml").read_text()
