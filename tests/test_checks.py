"""Options out of range, and options that do nothing, are refused by name before anything is trained."""

import re
from dataclasses import replace

import pytest
import torch

from seqmm.arguments import TrainArguments
from seqmm.checks import check_count, check_edge_keep
from seqmm.run.settings import load_run
from tests.cases import CASES

RANGES = [  # case, options, what the message says
    ("lightgcn", {"edge_keep": 0.0}, "edge_keep is 0.0; choose above 0 and at most 1"),
    ("lightgcn", {"edge_keep": 1.5}, "edge_keep is 1.5; choose above 0 and at most 1"),
    ("lightgcn", {"edge_keep": -0.1}, "edge_keep is -0.1; choose above 0 and at most 1"),
    ("lightgcn", {"edge_keep": 1e-4}, "edge_keep is 0.0001, which keeps none of the"),
    ("idfree", {"edge_keep": 1e-5}, "edge_keep is 1e-05, which keeps none of the"),
    ("lightgcn", {"num_layers": -1}, "num_layers is -1; choose 0 or more"),
    ("lightgcn", {"hidden_size": -8}, "hidden_size is -8; choose 1 or more"),
    ("sasrec", {"num_layers": -2}, "num_layers is -2; choose 1 or more"),
    ("sasrec", {"max_length": 0}, "max_length is 0; choose 1 or more"),
    ("sasrec", {"dropout": 1.5}, "dropout is 1.5; choose at least 0 and below 1"),
    ("sgl-node", {"drop": -0.1}, "drop is -0.1; choose at least 0 and below 1"),
    ("sgl-node", {"drop": 1.5}, "drop is 1.5; choose at least 0 and"),
    ("sgl", {"drop": 1.0}, "drop is 1.0; choose at least 0 and"),
    ("sgl", {"num_layers": 0}, "num_layers is 0; choose 1 or more"),
    ("sgl", {"temperature": 0.0}, "temperature is 0.0; choose a number above 0"),
    ("ngcf", {"node_dropout": 1.0}, "node_dropout is 1.0; choose at least 0 and"),
    ("ngcf", {"message_dropout": -0.5}, "message_dropout is -0.5; choose at least 0 and"),
    ("ngcf", {"layer_sizes": (8, 0)}, "layer_sizes is (8, 0); choose 1 or more"),
    ("ncl", {"cluster_every": 0}, "cluster_every is 0; choose 1 or more"),
    ("ncl", {"warmup_epochs": -1}, "warmup_epochs is -1; choose 0 or more"),
    ("ncl", {"num_clusters": 0}, "num_clusters is 0; choose 1 or more"),
    ("ncl", {"temperature": 0.0}, "temperature is 0.0; choose a number above 0"),
    ("hccf", {"num_layers": 0}, "num_layers is 0; choose 1 or more"),
    ("hccf", {"num_hyperedges": 0}, "num_hyperedges is 0; choose 1 or more"),
    ("hccf", {"dropout": 1.0}, "dropout is 1.0; choose at least 0 and"),
    ("hccf", {"temperature": -1.0}, "temperature is -1.0; choose a number above 0"),
    ("selfcf", {"edge_dropout": 1.5}, "edge_dropout is 1.5; choose at least 0 and at most 1"),
    ("selfcf-history", {"momentum": -0.1}, "momentum is -0.1; choose at least 0 and"),
    ("selfcf", {"dropout": 1.0}, "dropout is 1.0; choose at least 0 and"),
    ("buir", {"momentum": 1.1}, "momentum is 1.1; choose at least 0 and"),
    ("item_knn", {"num_neighbors": 0}, "num_neighbors is 0; choose 1 or more"),
    ("item_knn", {"recent": -1}, "recent is -1; choose 0 or more"),
    ("mmgcn", {"num_layers": 0}, "num_layers is 0; choose 1 or more"),
    ("mmgcn", {"latent": {"image_vector": -1}}, "latent is {'image_vector': -1}; choose 0 or more"),
    ("grcn", {"num_layers": 0}, "num_layers is 0; choose 1 or more"),
    ("grcn", {"num_routing": -1}, "num_routing is -1; choose 0 or more"),
    ("dualgnn", {"num_user_neighbors": -3}, "num_user_neighbors is -3; choose 1 or more"),
    ("dualgnn", {"inner_size": 0}, "inner_size is 0; choose 1 or more"),
    ("dragon", {"num_item_layers": -1}, "num_item_layers is -1; choose 0 or more"),
    ("cohesion", {"num_neighbors": 100}, "num_neighbors is 100, but the corpus has 40 items; choose 1 to 40"),
    ("lattice", {"frozen_weight": 1.5}, "frozen_weight is 1.5; choose at least 0 and at most 1"),
    ("lattice", {"num_item_layers": 0}, "num_item_layers is 0; choose 1 or more"),
    ("lattice-learned", {"num_neighbors": 100}, "num_neighbors is 100, but the corpus has 40 items"),
    ("micro", {"num_item_layers": 0}, "num_item_layers is 0; choose 1 or more"),
    ("micro", {"temperature": 0.0}, "temperature is 0.0; choose a number above 0"),
    ("damrs", {"num_item_layers": 0}, "num_item_layers is 0; choose 1 or more"),
    ("damrs", {"num_neighbors": 100}, "num_neighbors is 100, but the corpus has 40 items"),
    ("damrs", {"num_behavior_neighbors": 0}, "num_behavior_neighbors is 0; choose 1 or more"),
    ("freedom", {"num_neighbors": 100}, "num_neighbors is 100, but the corpus has 40 items; choose 1 to 40"),
    ("freedom", {"num_neighbors": 0}, "num_neighbors is 0; choose 1 or more"),
    ("slmrec", {"ssl_temperature": 0.0}, "ssl_temperature is 0.0; choose a number above 0"),
    ("slmrec-fd", {"dropout": 1.0}, "dropout is 1.0; choose at least 0 and"),
    ("bm3", {"dropout": 1.0}, "dropout is 1.0; choose at least 0 and"),
    ("bm3", {"num_layers": 0}, "num_layers is 0; choose 1 or more"),
    ("mgcn", {"num_neighbors": 100}, "num_neighbors is 100, but the corpus has 40 items"),
    ("mgcn", {"temperature": 0.0}, "temperature is 0.0; choose a number above 0"),
    ("lgmrec", {"num_hyper_layers": 0}, "num_hyper_layers is 0; choose 1 or more"),
    ("lgmrec", {"num_hyperedges": 0}, "num_hyperedges is 0; choose 1 or more"),
    ("lgmrec", {"temperature": 0.0}, "temperature is 0.0; choose a number above 0"),
    ("pgl", {"temperature": 0.0}, "temperature is 0.0; choose a number above 0"),
    ("pgl-global", {"rank": 12}, "rank is 12; triplets come in pairs and a quarter is kept: choose a multiple of 8"),
    ("idfree", {"num_layers": 0}, "num_layers is 0; choose 1 or more"),
    ("idfree", {"num_neighbors": 50}, "num_neighbors is 50, but the corpus has 40 items"),
    ("idfree", {"temperature": 0.0}, "temperature is 0.0; choose a number above 0"),
    ("userec", {"num_samples": -1}, "num_samples is -1; choose 0 or more"),
    ("userec", {"attention_weight": 1.5}, "attention_weight is 1.5; choose at least 0 and"),
    ("userec", {"dropout": 1.0}, "dropout is 1.0; choose at least 0 and"),
    ("userec", {"temperature": 0.0}, "temperature is 0.0; choose a number above 0"),
    ("mentor", {"num_item_layers": 0}, "num_item_layers is 0; choose 1 or more"),
    ("mentor", {"num_layers": 0}, "num_layers is 0; choose 1 or more"),
    ("mentor", {"mask_dropout": 1.0}, "mask_dropout is 1.0; choose at least 0 and"),
    ("mentor", {"temperature": 0.0}, "temperature is 0.0; choose a number above 0"),
    ("mentor-attention", {"num_heads": 0}, "num_heads is 0; choose 1 or more"),
    ("mentor-attention", {"num_neighbors": 100}, "num_neighbors is 100, but the corpus has 40 items"),
    (
        "mmssl",
        {"model_cat_rate": 0.0, "feature_regularization": 0.0, "adversarial_weight": 0.0},
        "modality_graphs is learned from content whose maps nothing trains",
    ),
    ("mmssl", {"num_neighbors": 0}, "num_neighbors is 0; choose 1 or more"),
    ("mmssl", {"num_heads": 0}, "num_heads is 0; choose 1 or more"),
    ("mmssl", {"critic_dropout": (0.1, 1.0)}, "critic_dropout is (0.1, 1.0); choose at least 0 and"),
    ("mmssl", {"gumbel_temperature": 0.0}, "gumbel_temperature is 0.0; choose a number above 0"),
    ("composite-node-drop", {"strength": 1.5}, "strength is 1.5, a share (auxiliary node_drop); choose at least 0 and"),
    ("composite-edge-drop", {"strength": -0.1}, "strength is -0.1; choose 0 or more"),
    ("composite", {"num_neighbors": 100}, "num_neighbors is 100, but the corpus has 40 items"),
    ("composite", {"item_layers": -1}, "item_layers is -1; choose 0 or more"),
]
IDLE = [
    ("buir-id", {"edge_keep": 0.5}, "edge_keep is 0.5, but does nothing: neighbors False"),
    ("lattice-one", {"edge_keep": 0.5}, "edge_keep is 0.5, but does nothing: cf_model mf"),
    ("composite-mf", {"edge_keep": 0.5}, "edge_keep is 0.5, but does nothing: encoder mf"),
    ("pgl-global", {"edge_keep": 0.5}, "edge_keep is 0.5, but does nothing: principal global"),
    ("damrs", {"train_features": True}, "train_features is True, but does nothing: content only builds graphs"),
    (
        "mentor-attention",
        {"modality_weights": {"text_vector": 0.9, "image_vector": 0.1}},
        "modality_weights is {'text_vector': 0.9, 'image_vector': 0.1}, but does nothing: item_fusion attention",
    ),
    (
        "freedom",
        {"modality_weights": {"text_vector": 0.9, "image_vector": 0.1}, "num_item_layers": 0},
        "but does nothing: num_item_layers 0 builds no item graph; leave modality_weights out",
    ),
    (
        "composite",
        {"modality_weights": {"text_vector": 0.9, "image_vector": 0.1}, "item_layers": 0},
        "but does nothing: encoder graph with item_layers 0 builds no item graph",
    ),
]


@pytest.mark.parametrize(("name", "options", "message"), RANGES + IDLE)
def test_options_are_refused_by_name(name, options, message):
    case = CASES[name]
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        case.model(case.corpus(), **options)
    said = str(error.value)  # by the config itself, or by the model that meets a corpus
    assert said.startswith("model.") or re.match(r"[A-Za-z0-9]+Config\.", said)


_MIX_NOTHING = ["vbpr", "mmgcn", "grcn", "dualgnn", "lattice", "micro", "mgcn", "damrs", "bm3", "slmrec", "lgmrec"]


@pytest.mark.parametrize("model_type", [*_MIX_NOTHING, "mmssl"])
def test_a_model_that_mixes_nothing_has_no_weights_to_mix_by(model_type, tmp_path):
    run = tmp_path / "run.yaml"
    text = "model: {model_type: %s, modality_weights: {image: 0.1, text: 0.9}}\ndata: {path: corpora/baby}\n"
    run.write_text(text % model_type)
    with pytest.raises(ValueError, match="model.modality_weights: there is no such option"):
        load_run(["--config", str(run)])
    run.write_text(text % "freedom")
    assert load_run(["--config", str(run)]).model.modality_weights == {"image": 0.1, "text": 0.9}


@pytest.mark.parametrize("name", ["freedom", "vbpr", "mmssl"])
def test_tags_are_refused_by_name(name):
    case = CASES[name]
    with pytest.raises(ValueError, match=f"{name} reads vectors, but feature set 'genre' holds tags.*leave it out"):
        tagged = replace(case, features=("text", "genre"))
        tagged.model(tagged.corpus())


@pytest.mark.parametrize("name", ["freedom", "pgl", "userec", "dragon", "cohesion"])
def test_no_step_over_the_item_graph_adds_nothing(name):
    """As if its weights were all zero, and no graph is built."""
    case = CASES[name]
    corpus = case.corpus()
    without, zeroed = (case.model(corpus, num_item_layers=layers).eval() for layers in (0, 1))
    assert without.item_graph is None
    zeroed.item_graph = zeroed.item_graph.reweighted(torch.zeros_like(zeroed.item_graph.edge_weight))
    for ours, theirs in zip(without.encode(), zeroed.encode(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"learning_rate": -1.0}, "learning_rate is -1.0; choose a number above 0"),
        ({"patience": -1}, "patience is -1; choose 0 or more"),
        ({"batch_size": 0}, "batch_size is 0; choose 1 or more"),
        ({"warmup_ratio": 2.0}, "warmup_ratio is 2.0; choose at least 0 and at most 1"),
        ({"decay_epochs": 0.0}, "decay_epochs is 0.0; choose a number above 0"),
        ({"schedule": "linear"}, "schedule is 'linear'; choose one of constant, cosine, decay"),
    ],
)
def test_training_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=re.escape(f"TrainArguments.{message}")):
        TrainArguments(**options)


def test_bounds_belong_to_the_range():
    check_count("a", 5, 5)
    check_edge_keep(0.2, 5)
    for refused in (lambda: check_count("a", 6, 5), lambda: check_edge_keep(0.4, 2)):
        with pytest.raises(ValueError, match="model.a|model.edge_keep"):
            refused()
