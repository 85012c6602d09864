from collections import ChainMap

import pytest
import torch

from seqmm.models.collaborative.dragon import DRAGON, DRAGONConfig
from tests.models.golden import (
    assert_gradients,
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
    set_neighbours,
)
from tests.models.test_dualgnn import NAMES as ENCODERS

NAMES = ENCODERS | {"weight.weight": "weight"}
FILES = golden_files(
    "DRAGON",
    {
        "cfg.embedding_size": "the released code hard-codes 64",
        "cfg.feat_embed_dim": "the released code hard-codes 64",
        "cfg.train_batch_size": "no loss divides by it",
        "cfg.aggr_mode": "add, the only one",
        "param.MLP_*": "used nowhere: not built",
        "param.weight_i": "used nowhere: not built",
        "param.image_*": "used nowhere: not built",
        "param.text_*": "used nowhere: not built",
        "out.params_without_grad": "those above",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        image = golden.number("cfg.mm_image_weight")
        config = DRAGONConfig(
            regularization=golden.number("cfg.reg_weight"),
            num_item_layers=int(golden["cfg.n_mm_layers"]),
            num_neighbors=int(golden["cfg.knn_k"]),
            modality_weights={"image": image, "text": 1 - image},
        )
        theirs = {f"{kind}.weight": golden[f"{kind}.weight_u"][..., 0] for kind in ("param", "grad")}
        theirs |= {f"grad.{m}_gcn.preference": golden[f"grad.{m}_preference"] for m in "vt"}
        theirs = ChainMap(theirs, golden)
        model = load(DRAGON.for_corpus(config, golden_corpus(golden)), theirs, NAMES)
        assert_near(model.item_graph.dense(), golden["graph.mm_adj"], 1e-6)
        set_neighbours(model, golden)
        loss = model.train()(golden_batch(golden))["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, theirs, NAMES)
        assert_near(torch.cat(model.encode()), golden["out.repr_all_nodes"], 1e-6)
        everyone = {"user": torch.arange(model.config.num_users)}
        assert_near(model.score(everyone, model.tables()), golden["out.scores"], 1e-6)
