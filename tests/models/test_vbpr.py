from dataclasses import replace

import pytest
import torch

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.collaborative.vbpr import VBPR, VBPRConfig
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
)

NAMES = {
    "user.weight": "u_embedding",
    "item.weight": "i_embedding",
    "project.weight": "item_linear.weight",
    "project.bias": "item_linear.bias",
}
TEXT_FIRST = {"text": "in.t_feat", "image": "in.v_feat"}
FILES = golden_files(
    "VBPR",
    {
        "cfg.feat_embed_dim": "one width: embedding_size",
        "cfg.train_batch_size": "no loss divides by it",
        "out.params_without_grad": "empty",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        config = VBPRConfig(
            hidden_size=int(golden["cfg.embedding_size"]), regularization=golden.number("cfg.reg_weight")
        )
        model = load(VBPR.for_corpus(config, golden_corpus(golden, TEXT_FIRST)), golden, NAMES)
        loss = model(golden_batch(golden))["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


def test_without_content_it_is_refused():
    with pytest.raises(ValueError, match=r"vbpr needs at least 1 .* `data.features`"):
        VBPR.for_corpus(VBPRConfig(), replace(synthetic_corpus(num_users=30, num_items=20), features={}))


@pytest.mark.parametrize("name", ["type", "keys", "training"])
def test_a_feature_set_named_as_a_part_of_torch_is_refused(name):
    corpus = synthetic_corpus(20, 15)
    corpus = replace(corpus, features={name: corpus.features["text_vector"]})
    with pytest.raises(ValueError, match=f"feature set called '{name}', .* such as {name}_vectors"):
        VBPR.for_corpus(VBPRConfig(), corpus)
