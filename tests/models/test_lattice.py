import pytest
import torch
import torch.nn.functional as F

from seqmm.models.collaborative.lattice import LATTICE, LATTICEConfig
from tests.cases import CASES
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
    "logits": "modal_weight",
    "user.weight": "user_embedding.weight",
    "item.weight": "item_id_embedding.weight",
    "trained_features.image": "image_embedding.weight",
    "trained_features.text": "text_embedding.weight",
    "project.image.weight": "image_trs.weight",
    "project.image.bias": "image_trs.bias",
    "project.text.weight": "text_trs.weight",
    "project.text.bias": "text_trs.bias",
}
FILES = golden_files(
    "LATTICE",
    {"cfg.feat_embed_dim": "one width: embedding_size", "out.params_without_grad": "empty"},
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        batch = golden_batch(golden)
        config = LATTICEConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            cf_model=str(golden["cfg.cf_model"]),
            num_layers=len(golden["cfg.weight_size"]),
            num_item_layers=int(golden["cfg.n_layers"]),
            num_neighbors=int(golden["cfg.knn_k"]),
            frozen_weight=golden.number("cfg.lambda_coeff"),
            # MMRec divides the squares by the configured batch size
            regularization=golden.number("cfg.reg_weight") * len(batch["user"]) / int(golden["cfg.train_batch_size"]),
        )
        model = load(LATTICE.for_corpus(config, golden_corpus(golden)), golden, NAMES).train()
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        for name, graph in zip(("image", "text"), model.frozen_graphs, strict=True):
            assert_near(graph.dense(), golden[f"graph.{name}_original_adj"], 1e-6)

        model.on_stage_start(0, 0, torch.Generator())
        (graph,) = model.item_graphs()
        assert graph.edge_weight.requires_grad
        assert_near(graph.dense(), golden["graph.item_adj_first_batch"], 1e-6)
        loss = model(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        assert_gradients(model, golden, NAMES)

        model.on_step_end(1)
        model.zero_grad()
        loss = model(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss_second_batch"), abs=1e-6)
        loss.backward()
        without = {theirs for ours, theirs in NAMES.items() if model.get_parameter(ours).grad is None}
        assert without == set(golden["out.params_without_grad_second_batch"].tolist())
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.eval().score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", ["lattice-one", "lattice-three"])
@pytest.mark.parametrize("share", [0.9, 0.0, 1.0])
def test_the_item_graph_is_the_dense_definition(name, share):
    corpus = CASES[name].corpus()
    whole = CASES[name].model(corpus).double().eval()
    model = CASES[name].model(corpus, frozen_weight=share).double().eval()
    model.load_state_dict(whole.state_dict(), strict=False)
    assert bool(model.project) == bool(model.trained_features) == (share < 1)
    weights = torch.linspace(-1, 1, len(model.modalities), dtype=torch.float64)
    if len(weights) > 1:
        model.logits.copy_(weights)
    weights = weights.softmax(0)

    def nearest(x):
        unit = F.normalize(x, dim=1)
        similar = unit @ unit.T
        top = similar.topk(model.config.num_neighbors)
        return torch.zeros_like(similar).scatter(1, top.indices, top.values)

    def normalised(s):
        root = s.sum(1) ** -0.5
        return root[:, None] * s * root

    features = [model.features(modality).double() for modality in model.modalities]
    learned = sum(w * nearest(whole.project[m](x)) for w, m, x in zip(weights, model.modalities, features, strict=True))
    frozen = sum(w * normalised(nearest(x)) for w, x in zip(weights, features, strict=True))
    expected = (1 - share) * normalised(learned) + share * frozen
    torch.testing.assert_close(model.item_graphs()[0].dense().double(), expected, rtol=1e-5, atol=1e-6)


def test_the_graph_is_learned_in_the_first_step_kept_in_the_others_and_made_anew_for_scoring():
    corpus = CASES["lattice"].corpus()
    model = CASES["lattice"].model(corpus).train()
    model.on_stage_start(0, 0, torch.Generator())
    first = model.item_graphs()[0].edge_weight
    model.on_step_end(1)
    with torch.no_grad():
        for parameter in model.project.parameters():
            parameter.copy_(torch.randn_like(parameter))
    kept = model.item_graphs()[0]
    assert first.requires_grad and not kept.edge_weight.requires_grad
    assert torch.equal(kept.edge_weight, first.detach())
    fresh = model.eval().item_graphs()[0]
    assert not torch.equal(fresh.edge_index, kept.edge_index)
    resumed = CASES["lattice"].model(corpus, seed=1).train()  # other weights: only the state counts
    for name, tensor in model.hook_state.items():
        resumed.set_state(name, tensor)
    assert torch.equal(resumed.item_graphs()[0].dense(), kept.dense())
