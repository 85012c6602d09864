import pytest
import torch

from seqmm.models.collaborative.lgmrec import LGMRec, LGMRecConfig
from tests.cases import CASES
from tests.models.golden import assert_near, golden_batch, golden_corpus, golden_files, in_double, reading

TABLES = {"user.weight": "user_embedding.weight", "item.weight": "item_id_embedding.weight"}
MATRICES = {  # stored [in, out]
    "project.image.weight": "item_image_trs",
    "project.text.weight": "item_text_trs",
    "hyper.image.weight": "v_hyper",
    "hyper.text.weight": "t_hyper",
}
FILES = golden_files(
    "LGMRec",
    {
        "cfg.feat_embed_dim": "one width: embedding_size",
        "cfg.train_batch_size": "no loss divides by it",
        "cfg.cf_model": "lightgcn, the only one built",
        "cfg.keep_rate": "dropout is off in the file",
        "param.image_embedding.weight": "features are frozen: in.v_feat",
        "param.text_embedding.weight": "features are frozen: in.t_feat",
        "out.params_without_grad": "the feature tables",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        batch = golden_batch(golden)
        config = LGMRecConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_layers=int(golden["cfg.n_ui_layers"]),
            num_content_layers=int(golden["cfg.n_mm_layers"]),
            num_hyper_layers=int(golden["cfg.n_hyper_layer"]),
            num_hyperedges=int(golden["cfg.hyper_num"]),
            alpha=golden.number("cfg.alpha"),
            contrast_weight=golden.number("cfg.cl_weight") * len(batch["user"]),  # MMRec sums, we average
            regularization=golden.number("cfg.reg_weight"),
        )
        model = LGMRec.for_corpus(config, golden_corpus(golden))
        state = {ours: torch.from_numpy(golden[f"param.{theirs}"]) for ours, theirs in TABLES.items()}
        state |= {ours: torch.from_numpy(golden[f"param.{theirs}"]).T for ours, theirs in MATRICES.items()}
        model.load_state_dict(state)
        in_double(model).eval()  # without noise and dropout
        assert_near(model.graph.dense(), golden["graph.norm_adj"], 1e-6)
        assert_near(model.sum_of_items.dense(), golden["graph.adj"], 0)
        inverse = torch.from_numpy(golden["graph.inv_degree"][: golden["in.n_users"]])
        assert_near(model.mean_of_items.dense(), (inverse * model.sum_of_items.dense()).numpy(), 1e-6)
        loss = model(batch)["loss"]
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        for ours, theirs in TABLES.items():
            assert_near(model.get_parameter(ours).grad, golden[f"grad.{theirs}"], 2e-5)
        for ours, theirs in MATRICES.items():
            assert_near(model.get_parameter(ours).grad.T, golden[f"grad.{theirs}"], 2e-5)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.score({"user": users}, model.tables()), golden["out.scores"], 1e-6)


def test_noise_is_gumbels():
    """Sharpened dependencies choose hyperedge k with probability softmax(logits)_k, whatever the temperature."""
    case = CASES["lgmrec"]
    model = case.model(case.corpus(), dropout=0.0).train()
    logits = torch.tensor([0.0, 1.0, -0.5, 0.3]).expand(20000, 4)
    depends = model.depend(logits, {"step_seed": torch.tensor(7)}, "test")
    torch.testing.assert_close(depends.sum(1), torch.ones(20000))
    chosen = torch.bincount(depends.argmax(1), minlength=4) / 20000
    torch.testing.assert_close(chosen, logits[0].softmax(0), atol=0.02, rtol=0)
    assert torch.equal(depends, model.depend(logits, {"step_seed": torch.tensor(7)}, "test"))
