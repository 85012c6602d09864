"""Every row of the papers' ablation tables, as its YAML file has it: two epochs, small, and no parameter untrained."""

from dataclasses import replace

import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.evaluation.evaluator import Evaluator
from seqmm.models.registry import model_class
from seqmm.run.settings import load_run
from seqmm.training.trainer import Trainer
from tests.conftest import REPOSITORY
from tests.test_contract import largest_gradients

PATTERNS = ("mentor/baby_[img][0-9].yaml", "mmssl/tiktok_*.yaml", "userec/baby_without_*.yaml")
FILES = [file for pattern in PATTERNS for file in sorted((REPOSITORY / "recipes" / "configs").glob(pattern))]


def test_the_papers_rows_are_all_here():
    names = {"mentor": "i1 i2 m1 m2 m3 m4 g1 g2 g3", "mmssl": "without_asl without_cl without_gt gae"}
    names["userec"] = "without_attention without_ii without_mllm without_pos without_pos2 without_pruning"
    expected = {f"{model}/{row}" for model, rows in names.items() for row in rows.split()}
    assert {f"{file.parent.name}/{file.stem.split('_', 1)[1]}" for file in FILES} == expected


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_an_ablation_trains_two_epochs(file, tmp_path):
    run = load_run(["--config", str(file), "--train.epochs", "2", "--train.batch-size", "64"])
    whole = synthetic_corpus(60, 40, protocol="given", mean_length=12, modalities=("a", "b", "c"))
    dense = [whole.features[f"{name}_vector"] for name in "abc"]
    corpus = replace(whole, features=dict(zip(run.data.features, dense, strict=False)))
    run.model.hidden_size, run.model.num_neighbors = 16, 4
    torch.manual_seed(0)
    model = model_class(run.model.model_type).for_corpus(run.model, corpus)
    untrained = [key for key, size in largest_gradients(model, corpus).items() if size <= 1e-9]
    assert not untrained
    evaluator = Evaluator(corpus, "validation", ks=(10, 20), metrics=("recall",))
    trainer = Trainer(model, corpus, run.train, evaluator=evaluator, monitor=run.eval.monitor, output_dir=tmp_path)
    assert trainer.train().epoch == 2
