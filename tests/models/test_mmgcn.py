import numpy as np
import pytest
import torch

from seqmm.models.collaborative.mmgcn import MMGCN, MMGCNConfig
from tests.cases import CASES
from tests.models.golden import (
    assert_near,
    golden_batch,
    golden_corpus,
    golden_files,
    in_double,
    reading,
    train_only_corpus,
)

NAMES = {"networks.image.project.weight": "v_gcn.MLP.weight", "networks.image.project.bias": "v_gcn.MLP.bias"}
TRANSPOSED = {}  # stored [in, out]
for modality, letter in (("image", "v"), ("text", "t")):
    for layer in range(3):
        TRANSPOSED[f"networks.{modality}.layers.{layer}.neighbours.weight"] = (
            f"{letter}_gcn.conv_embed_{layer + 1}.weight"
        )
        for part in ("weight", "bias"):
            NAMES[f"networks.{modality}.layers.{layer}.own.{part}"] = f"{letter}_gcn.linear_layer{layer + 1}.{part}"
            NAMES[f"networks.{modality}.layers.{layer}.combine.{part}"] = f"{letter}_gcn.g_layer{layer + 1}.{part}"
FILES = golden_files(
    "MMGCN",
    {
        "cfg.feat_embed_dim": "one width: embedding_size",
        "cfg.train_batch_size": "no loss divides by it",
        "cfg.n_layers": "MMRec ignores it: 3 layers",
        "out.params_without_grad": "empty",
    },
)


@pytest.mark.parametrize("train_ids", [False, True])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file, train_ids):
    with reading(file) as golden:
        config = MMGCNConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            latent={"image": len(golden["param.v_gcn.MLP.bias"])},
            regularization=golden.number("cfg.reg_weight"),
            train_ids=train_ids,
        )
        model = MMGCN.for_corpus(config, golden_corpus(golden))
        config = model.config
        user, item = torch.from_numpy(golden["plain.id_embedding"]).split([config.num_users, config.num_items])
        state = {"user.weight": user, "item.weight": item}
        for ours, letter in (("image", "v"), ("text", "t")):
            state[f"preference.{ours}"] = torch.from_numpy(golden[f"plain.{letter}_gcn.preference"])
        state |= {ours: torch.from_numpy(golden[f"param.{theirs}"]) for ours, theirs in NAMES.items()}
        state |= {ours: torch.from_numpy(golden[f"param.{theirs}"]).T for ours, theirs in TRANSPOSED.items()}
        model.load_state_dict(state)
        in_double(model).train()
        # MMRec penalises the first modality's preferences only
        extra = config.regularization * model.preference["text"].square().mean()
        loss = model(golden_batch(golden))["loss"] - extra
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        for ours, theirs in NAMES.items():
            assert_near(model.get_parameter(ours).grad, golden[f"grad.{theirs}"], 2e-5)
        for ours, theirs in TRANSPOSED.items():
            assert_near(model.get_parameter(ours).grad.T, golden[f"grad.{theirs}"], 2e-5)
        assert (model.user.weight.grad is not None) == train_ids
        tables = model.eval().tables()
        assert_near(torch.cat([tables["users"], tables["items"]]), golden["out.repr_all_nodes"], 1e-6)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.score({"user": users}, tables), golden["out.scores"], 1e-6)


@pytest.mark.parametrize(("given", "width"), [({}, 256), ({"image": 40}, 40), ({"image": 0}, 1500)])
def test_wide_content_is_mapped_to_256_unless_said_otherwise(given, width):
    features = {"image": np.random.default_rng(0).random((5, 1500)), "text": np.ones((5, 1024))}
    model = MMGCN.for_corpus(
        MMGCNConfig(hidden_size=8, latent=given), train_only_corpus(np.arange(4), np.arange(4), 4, 5, features)
    )
    assert model.preference["image"].shape == (4, width) and model.preference["text"].shape == (4, 1024)
    assert (model.networks["image"].project is None) == (width == 1500) and model.networks["text"].project is None
    assert all(table.shape[1] == 8 for table in model.encode())


def test_latent_names_modalities():
    case = CASES["mmgcn"]
    with pytest.raises(ValueError, match=r"latent names \['video'\]"):
        case.model(case.corpus(), latent={"video": 4})
