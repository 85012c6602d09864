import pytest
import torch
import torch.nn.functional as F

from seqmm.models.collaborative.grcn import GRCN, GRCNConfig
from tests.cases import CASES
from tests.models.golden import assert_near, golden_batch, golden_corpus, golden_files, in_double, reading

NAMES = {}
for modality, letter in (("image", "v"), ("text", "t")):
    NAMES[f"preference.{modality}"] = f"{letter}_gcn.preference"
    for part in ("weight", "bias"):
        NAMES[f"project.{modality}.{part}"] = f"{letter}_gcn.MLP.{part}"
FILES = golden_files(
    "GRCN",
    {
        "cfg.feat_embed_dim": "one width: embedding_size",
        "cfg.latent_embedding": "one width: embedding_size",
        "cfg.train_batch_size": "no loss divides by it",
        "cfg.n_layers": "has no effect: routing never reaches users",
        "out.params_without_grad": "empty",
    },
)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_matches_mmrec(file):
    with reading(file) as golden:
        config = GRCNConfig(
            hidden_size=int(golden["cfg.embedding_size"]),
            num_routing=0,
            regularization=golden.number("cfg.reg_weight"),
        )
        model = GRCN.for_corpus(config, golden_corpus(golden))
        config = model.config
        sizes = [config.num_users, config.num_items]
        user, item = torch.from_numpy(golden["param.id_gcn.id_embedding"]).split(sizes)
        state = {"user.weight": user, "item.weight": item}
        user, item = torch.from_numpy(golden["param.model_specific_conf"]).split(sizes)
        state |= {"user_confidence.weight": user, "item_confidence.weight": item}
        state |= {ours: torch.from_numpy(golden[f"param.{theirs}"]) for ours, theirs in NAMES.items()}
        model.load_state_dict(state)
        in_double(model).train()
        # MMRec adds all preferences of the first modality
        extra = config.regularization * model.preference["image"].square().mean()
        loss = model(golden_batch(golden))["loss"] + extra
        assert float(loss.detach()) == pytest.approx(golden.number("out.loss"), abs=1e-6)
        loss.backward()
        for ours, theirs in NAMES.items():
            assert_near(model.get_parameter(ours).grad, golden[f"grad.{theirs}"], 2e-5)
        ids = torch.cat([model.user.weight.grad, model.item.weight.grad])
        assert_near(ids, golden["grad.id_gcn.id_embedding"], 2e-5)
        confidence = torch.cat([model.user_confidence.weight.grad, model.item_confidence.weight.grad])
        assert_near(confidence, golden["grad.model_specific_conf"], 2e-5)
        tables = model.eval().tables()
        assert_near(torch.cat([tables["users"], tables["items"]]), golden["out.repr_all_nodes"], 1e-6)
        users = torch.arange(int(golden["in.n_users"]))
        assert_near(model.score({"user": users}, tables), golden["out.scores"], 1e-6)


def test_routing_and_attention_against_loops():
    """No golden covers routing: users one by one."""
    case = CASES["grcn"]
    corpus = case.corpus()
    model = in_double(case.model(corpus, num_routing=2))
    name = model.modalities[0]
    items = F.normalize(F.leaky_relu(model.project[name](model.features(name))))
    histories = corpus.histories("train")
    users = []
    for user, p in enumerate(F.normalize(model.preference[name])):
        near = items[torch.as_tensor(histories[user])]
        for _ in range(2):
            p = F.normalize(p + (near @ p).softmax(0) @ near, dim=0) if len(near) else p
        users.append(p)
    users = torch.stack(users)
    seen = torch.zeros(len(users), len(items), dtype=torch.bool)
    for user in range(len(users)):
        seen[user, torch.as_tensor(histories[user])] = True
    logits = (users @ items.T).masked_fill(~seen, -torch.inf)
    to_users, to_items = logits.softmax(1).nan_to_num(), logits.softmax(0).nan_to_num()  # no edge: nothing arrives
    rows, attention = model.refine(name)
    expected = torch.cat([users + to_users @ items, items + to_items.T @ users])
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(attention, torch.cat([to_users[seen], to_items[seen]]))
