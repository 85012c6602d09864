"""Every row of the papers' ablation tables, a variant of a YAML file: two epochs, small, and no parameter untrained."""

from dataclasses import replace

import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.evaluation.evaluator import Evaluator
from seqmm.files import read_yaml
from seqmm.models.registry import model_class
from seqmm.run.settings import load_run
from seqmm.run.variants import variants_of
from seqmm.training.trainer import Trainer
from tests.conftest import REPOSITORY
from tests.test_contract import largest_gradients

CONFIGS = REPOSITORY / "recipes" / "configs"
TABLES = {
    "mentor/baby": "M1 M2 M3 M4 G1 G2 G3 I1 I2",
    "mmssl/tiktok": "without_asl without_cl without_gt gae",
    "userec/baby": "without_mllm without_pruning without_pos without_pos2 without_ii without_attention",
}
ROWS = [(name, variant) for name in TABLES for variant in variants_of(read_yaml(CONFIGS / f"{name}.yaml"), name)]


def test_the_papers_rows_are_all_here():
    assert [(name, variant) for name, variants in TABLES.items() for variant in variants.split()] == ROWS


@pytest.mark.parametrize(("name", "variant"), ROWS, ids=["#".join(row) for row in ROWS])
def test_an_ablation_trains_two_epochs(name, variant, tmp_path):
    flags = ["--train.epochs", "2", "--train.batch-size", "64"]
    run = load_run(["--config", str(CONFIGS / f"{name}.yaml"), "--variant", variant, *flags])
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
