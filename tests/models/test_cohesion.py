from collections import ChainMap

import numpy as np
import pytest
import torch

from seqmm.models.collaborative.cohesion import COHESION, COHESIONConfig
from tests.models.golden import (
    assert_gradients,
    assert_near,
    edge_positions,
    golden_batch,
    golden_corpus,
    golden_files,
    load,
    reading,
    set_neighbours,
)


def _encoder(ours, theirs):
    return {
        f"{ours}.preference.weight": f"{theirs}.preference",
        f"{ours}.project.0.weight": f"{theirs}.MLP.weight",
        f"{ours}.project.0.bias": f"{theirs}.MLP.bias",
        f"{ours}.project.2.weight": f"{theirs}.MLP_1.weight",
        f"{ours}.project.2.bias": f"{theirs}.MLP_1.bias",
    }


IDENTITY = _encoder("identity", "id_gcn")
TRAINED = {"item.weight": "id_feat"} | _encoder("content.image", "v_gcn") | _encoder("content.text", "t_gcn")
FILES = golden_files(
    "COHESION",
    {
        "cfg.embedding_size": "the released code hard-codes 64",
        "cfg.feat_embed_dim": "the released code hard-codes 64",
        "cfg.train_batch_size": "no loss divides by it",
        "cfg.num_layer": "n_layers under another name",
        "param.image_embedding.weight": "used nowhere: not built",
        "param.text_embedding.weight": "used nowhere: not built",
        "grad.weight_u": "penalised and used nowhere: not built, the loss gets its penalty in the test",
        "out.params_without_grad": "the id's encoder, and the tables used nowhere",
        "graph.edge_sampling_weight": "tests/test_graph.py compares the draw with its probabilities",
        "graph.edge_list": "sorted by (user, item), as our edges are; kept_edges are looked up in it",
    },
)


class Released(COHESION):
    """No gradient through the id's graph representation."""

    def branches(self):
        identity, *content = super().branches()
        return [identity.detach(), *content]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_the_released_code(file):
    with reading(file) as golden:
        image, strength = golden.number("cfg.mm_image_weight"), golden.number("cfg.reg_weight")
        config = COHESIONConfig(
            num_layers=int(golden["cfg.n_layers"]),
            num_item_layers=int(golden["cfg.n_mm_layers"]),
            num_neighbors=int(golden["cfg.knn_k"]),
            regularization=strength,
            edge_keep=1 - golden.number("cfg.dropout"),
            modality_weights={"image": image, "text": 1 - image},
        )
        model = load(Released.for_corpus(config, golden_corpus(golden)), golden, TRAINED | IDENTITY)
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        assert_near(model.item_graph.dense(), golden["graph.mm_adj"], 1e-6)
        model.on_state("kept_edges", edge_positions(model, golden["rand.kept_edges"]))
        assert_near(model.training_graph.dense(), golden["graph.masked_adj"], 1e-6)
        set_neighbours(model, golden)
        batch = golden_batch(golden)
        loss = model.train()(batch)["loss"]
        unused = strength * np.square(golden["param.weight_u"]).mean()
        assert float(loss.detach()) + unused == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        theirs = ChainMap({f"grad.{m}_gcn.preference": golden[f"grad.{m}_preference"] for m in "vt"}, golden)
        assert_gradients(model, theirs, TRAINED)
        assert all(parameter.grad is None for parameter in model.identity.parameters())
        assert_near(torch.cat(model.encode()), golden["out.repr_all_nodes"], 1e-6)
        everyone = {"user": torch.arange(model.config.num_users)}
        assert_near(model.score(everyone, model.tables()), golden["out.scores"], 1e-6)
