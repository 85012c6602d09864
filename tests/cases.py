"""Every model once, small: what the contract test and the two-process test run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.base import Recommender
from seqmm.models.registry import model_class


@dataclass(frozen=True)
class Case:
    """A model, its features and the options that make it small and free of dropout."""

    model_type: str
    options: dict[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    pretraining: bool = False
    slow: bool = True
    """Whether the slow tests (learning, two processes) run it, too: they need one case a mechanism."""

    def corpus(self, **options: Any) -> Corpus:
        small = {"num_users": 60, "num_items": 40, "mean_length": 9, "modalities": ("text", "image", "audio")}
        whole = synthetic_corpus(**(small | options))
        return replace(whole, features={name: whole.features[name] for name in self.features})

    def model(self, corpus: Corpus, seed: int = 0, **options: Any) -> Recommender:
        torch.manual_seed(seed)
        cls = model_class(self.model_type, pretraining=self.pretraining)
        return cls.for_corpus(cls.config_class(**(self.options | options)), corpus)


_SMALL = {"hidden_size": 16}
_SEQUENCE = _SMALL | {"max_length": 8, "num_layers": 1, "num_heads": 2, "inner_size": 32, "dropout": 0.0}
_PLAIN = _SMALL | {"regularization": 0.0}
_MENTOR = _SMALL | {"num_neighbors": 4, "inner_size": 24}
_VIEWS = ("text", "image")
_DENSE = ("text_vector", "image_vector")
_MSM4SR = _SEQUENCE | {"num_experts": 2, "expert_dropout": 0.0}

_MMSSL_RELEASED = _SMALL | {  # but for the critic's slope of 1, with which batch normalisation cancels its biases
    "cross_attention": False,
    "softmax_last_layer": True,
    "mask_observed": True,
    "critic_norm": "batch",
    "critic_output": "sigmoid",
    "num_neighbors": 4,
}
_MMSSL_ALONE = _PLAIN | {
    "feature_regularization": 0.0,
    "id_cat_rate": 0.0,
    "contrast_weight": 0.0,
    "adversarial_weight": 0.0,
}
_PGL = _SMALL | {"edge_keep": 0.6, "num_neighbors": 4}
_COMPOSITE = _SMALL | {"num_neighbors": 4, "user_layers": 1}
_IDFREE = _SMALL | {"num_layers": 3, "num_neighbors": 4, "edge_keep": 0.6}
_USEREC = _SMALL | {"edge_keep": 0.6, "num_neighbors": 4}
_USERS = _SMALL | {"inner_size": 24}
_REPEAT = _USERS | {"neighbor_padding": "repeat"}

# all neighbours: at the second place counts are tied, and ties go to the smaller id
_DAMRS = _SMALL | {"num_neighbors": 4, "num_discriminated": 4, "num_behavior_neighbors": 40}

CASES = {
    "popularity": Case("popularity"),
    "item_knn": Case("item_knn"),
    "bpr": Case("bpr", _SMALL),
    "lightgcn": Case("lightgcn", _SMALL),
    "lightgcn-pruned": Case("lightgcn", _SMALL | {"edge_keep": 0.6}),
    # one layer: normalising the small rows of a second one amplifies rounding, as the two-process test would see
    "ngcf": Case("ngcf", _SMALL | {"layer_sizes": (16,), "node_dropout": 0.1}),
    "ngcf-joint": Case("ngcf", _SMALL | {"layer_sizes": (12, 8), "activation": "joint", "edge_keep": 0.6}, slow=False),
    "vbpr": Case("vbpr", _SMALL, _DENSE),
    "vbpr-one": Case("vbpr", _SMALL, ("text",), slow=False),
    "vbpr-three": Case("vbpr", _SMALL, (*_DENSE, "audio"), slow=False),
    "vbpr-trained-features": Case("vbpr", _SMALL | {"train_features": True}, _DENSE, slow=False),
    "dualgnn": Case("dualgnn", _USERS, _DENSE),
    "dualgnn-repeat": Case("dualgnn", _REPEAT, _DENSE),
    "dualgnn-one": Case("dualgnn", _USERS, ("text",), slow=False),
    "dualgnn-three": Case("dualgnn", _REPEAT, (*_DENSE, "audio"), slow=False),
    "dragon": Case("dragon", _REPEAT | {"num_neighbors": 4}, _DENSE),
    "dragon-one": Case("dragon", _USERS | {"num_neighbors": 4}, ("text",), slow=False),
    "dragon-three": Case("dragon", _USERS | {"num_neighbors": 4}, (*_DENSE, "audio"), slow=False),
    "cohesion": Case("cohesion", _REPEAT | {"num_neighbors": 4, "edge_keep": 0.6, "num_layers": 2}, _DENSE),
    "cohesion-one": Case("cohesion", _USERS | {"num_neighbors": 4}, ("text",), slow=False),
    "cohesion-three": Case("cohesion", _USERS | {"num_neighbors": 4}, (*_DENSE, "audio"), slow=False),
    "lattice": Case("lattice", _SMALL | {"num_neighbors": 4}, _DENSE),
    "lattice-one": Case("lattice", _SMALL | {"num_neighbors": 4, "cf_model": "mf"}, ("text",), slow=False),
    "lattice-three": Case("lattice", _SMALL | {"num_neighbors": 4}, (*_DENSE, "audio"), slow=False),
    "lattice-ngcf": Case(
        "lattice", _SMALL | {"num_neighbors": 4, "cf_model": "ngcf", "train_features": False}, _DENSE, slow=False
    ),
    "micro": Case("micro", _SMALL | {"num_neighbors": 4}, _DENSE),
    "micro-one": Case("micro", _SMALL | {"num_neighbors": 4, "cf_model": "ngcf"}, ("text",), slow=False),
    "micro-three": Case("micro", _SMALL | {"num_neighbors": 4}, (*_DENSE, "audio"), slow=False),
    "damrs": Case("damrs", _DAMRS, _DENSE),
    "damrs-one": Case("damrs", _DAMRS | {"weighted": False, "edge_keep": 0.6}, ("text",), slow=False),
    "damrs-three": Case("damrs", _DAMRS, (*_DENSE, "audio"), slow=False),
    "freedom": Case("freedom", _SMALL | {"edge_keep": 0.6, "num_neighbors": 4}, _DENSE),
    "freedom-one": Case("freedom", _SMALL | {"edge_keep": 0.6, "num_neighbors": 4}, ("text",), slow=False),
    "freedom-three": Case("freedom", _SMALL | {"edge_keep": 0.6, "num_neighbors": 4}, (*_DENSE, "audio"), slow=False),
    "freedom-none": Case("freedom", _SMALL, slow=False),
    "mentor": Case("mentor", _MENTOR, _DENSE),
    "mentor-attention": Case("mentor", _MENTOR | {"item_fusion": "attention"}, _DENSE),
    "mentor-one": Case("mentor", _MENTOR, ("text",), slow=False),
    "mentor-attention-one": Case("mentor", _MENTOR | {"item_fusion": "attention"}, ("text",), slow=False),
    "mentor-three": Case("mentor", _MENTOR | {"item_fusion": "attention"}, (*_DENSE, "audio"), slow=False),
    "mentor-three-weighted": Case("mentor", _MENTOR, (*_DENSE, "audio"), slow=False),
    "mentor-printed": Case(
        "mentor", _MENTOR | {"align_axis": "column", "perturbation_views": "each"}, _DENSE, slow=False
    ),
    "mentor-m1": Case("mentor", _MENTOR | {"align_levels": ()}, _DENSE, slow=False),
    "mentor-m2": Case("mentor", _MENTOR | {"align_levels": (1,)}, _DENSE, slow=False),
    "mentor-levels-34": Case("mentor", _MENTOR | {"align_levels": (3, 4)}, _DENSE, slow=False),
    "mentor-g1": Case("mentor", _MENTOR | {"feature_masking": 0.0, "graph_perturbation": 0.0}, _DENSE, slow=False),
    "idfree": Case("idfree", _IDFREE, _DENSE),
    "idfree-one": Case("idfree", _IDFREE, ("text",), slow=False),
    "idfree-three": Case("idfree", _IDFREE, (*_DENSE, "audio"), slow=False),
    "idfree-not-adaptive": Case("idfree", _IDFREE | {"adaptive": False, "train_features": False}, _DENSE, slow=False),
    "idfree-pe": Case("idfree", _IDFREE | {"pe": "sincos", "edge_keep": 1.0}, _DENSE, slow=False),
    "bm3": Case("bm3", _SMALL, _DENSE),
    "bm3-one": Case("bm3", _SMALL, ("text",), slow=False),
    "bm3-three": Case("bm3", _SMALL | {"num_layers": 2, "edge_keep": 0.6}, (*_DENSE, "audio"), slow=False),
    "bm3-none": Case("bm3", _SMALL, slow=False),
    "bm3-raw-features": Case("bm3", _SMALL | {"train_features": False}, _DENSE, slow=False),
    "pgl": Case("pgl", _PGL, _DENSE),
    "pgl-global": Case("pgl", _SMALL | {"num_neighbors": 4, "principal": "global", "rank": 32}, _DENSE),
    "pgl-one": Case("pgl", _PGL, ("text",), slow=False),
    "pgl-three": Case("pgl", _PGL, (*_DENSE, "audio"), slow=False),
    "pgl-raw-features": Case("pgl", _PGL | {"train_features": False, "edge_keep": 1.0}, _DENSE, slow=False),
    # the code's full length makes scores of 20 here, where SGD amplifies rounding (two processes)
    "userec": Case("userec", _USEREC | {"pe_scale": 0.25}, _DENSE),
    "userec-one": Case("userec", _USEREC | {"attention_values": "inputs"}, ("text",), slow=False),
    "userec-three": Case("userec", _USEREC | {"pe": "none"}, (*_DENSE, "audio"), slow=False),
    "userec-without-attention": Case("userec", _USEREC | {"num_samples": 0, "pe": "random"}, _DENSE, slow=False),
    "userec-pe-on-both": Case("userec", _USEREC | {"pe_on": "both", "num_samples": 0}, _DENSE, slow=False),
    "userec-without-behaviour": Case("userec", _SMALL | {"edge_keep": 1.0, "behaviour": False}, _DENSE, slow=False),
    "userec-relabelled": Case("userec", _USEREC | {"behaviour": False, "num_samples": 0}, _DENSE, slow=False),
    "userec-trained-features": Case("userec", _USEREC | {"train_features": True}, _DENSE, slow=False),
    "sgl": Case("sgl", _SMALL | {"temperature": 0.5}),
    "sgl-node": Case("sgl", _SMALL | {"augmentation": "node", "num_layers": 2}, slow=False),
    "sgl-walk": Case("sgl", _SMALL | {"augmentation": "walk", "num_layers": 2}, slow=False),
    "selfcf": Case("selfcf", _SMALL),
    "selfcf-history": Case("selfcf", _SMALL | {"perturbation": "history"}),
    "selfcf-edges": Case("selfcf", _SMALL | {"perturbation": "edges", "num_layers": 1, "dropout": 0.1}),
    "buir": Case("buir", _SMALL | {"momentum": 0.9}),
    "buir-id": Case("buir", _SMALL | {"momentum": 0.9, "neighbors": False}),
    "ncl": Case(
        "ncl", _SMALL | {"num_clusters": 5, "warmup_epochs": 1, "structure_weight": 0.1, "prototype_weight": 0.1}
    ),
    # the hypergraph's products make HCCF a polynomial of high degree: plain SGD diverges on larger ones
    "hccf": Case("hccf", _SMALL | {"num_hyperedges": 4, "slope": 0.5, "temperature": 0.5}),
    "hccf-linear": Case("hccf", _SMALL | {"num_hyperedges": 8}, slow=False),
    "ncl-warm": Case("ncl", _SMALL | {"num_layers": 1, "num_clusters": 5, "warmup_epochs": 0}, slow=False),
    "slmrec": Case("slmrec", _SMALL, _DENSE),
    "slmrec-one": Case("slmrec", _SMALL, ("text",), slow=False),
    "slmrec-three": Case("slmrec", _SMALL, (*_DENSE, "audio"), slow=False),
    "slmrec-fd": Case("slmrec", _SMALL | {"ssl_task": "fd"}, _DENSE, slow=False),
    "slmrec-fm": Case("slmrec", _SMALL | {"ssl_task": "fm"}, _DENSE, slow=False),
    "slmrec-fd-fm": Case("slmrec", _SMALL | {"ssl_task": "fd+fm"}, ("text",)),
    # a small weight: with 0.2 on batches of 13, rounding of 1e-7 grows to 1e-3 within an epoch, in one process, too
    "lgmrec": Case("lgmrec", _SMALL | {"num_hyper_layers": 2, "edge_keep": 0.6, "contrast_weight": 0.01}, _DENSE),
    "lgmrec-one": Case("lgmrec", _SMALL, ("text",), slow=False),
    "lgmrec-three": Case("lgmrec", _SMALL, (*_DENSE, "audio"), slow=False),
    "mmgcn": Case("mmgcn", _SMALL | {"latent": {"image_vector": 12}}, _DENSE),
    "mmgcn-one": Case("mmgcn", _SMALL | {"edge_keep": 0.6}, ("text",), slow=False),
    "mmgcn-three": Case("mmgcn", _SMALL, (*_DENSE, "audio"), slow=False),
    "mmgcn-frozen-ids": Case("mmgcn", _SMALL | {"train_ids": False}, _DENSE, slow=False),
    "grcn": Case("grcn", _SMALL, _DENSE),
    "grcn-one": Case("grcn", _SMALL, ("text",), slow=False),
    "grcn-three": Case("grcn", _SMALL, (*_DENSE, "audio"), slow=False),
    "grcn-unrouted": Case("grcn", _SMALL | {"num_routing": 0}, _DENSE, slow=False),
    "mgcn": Case("mgcn", _SMALL | {"num_neighbors": 4}, _DENSE),
    "mgcn-one": Case("mgcn", _SMALL | {"num_neighbors": 4}, ("text",), slow=False),
    "mgcn-three": Case("mgcn", _SMALL | {"num_neighbors": 4}, (*_DENSE, "audio"), slow=False),
    "composite": Case("composite", _COMPOSITE | {"auxiliary": "graph_noise", "attention": True}, _DENSE),
    "composite-mf": Case("composite", _SMALL | {"encoder": "mf", "timing": "early", "auxiliary": "modalities"}, _DENSE),
    "composite-concat": Case("composite", _COMPOSITE | {"strategy": "concat", "loss": "hinge"}, _DENSE, slow=False),
    "composite-early": Case(
        "composite", _COMPOSITE | {"timing": "early", "loss": "ce", "auxiliary": "noise", "attention": True}, _DENSE
    ),
    "composite-early-concat": Case(
        "composite",
        _COMPOSITE | {"timing": "early", "strategy": "concat", "attention": True, "auxiliary": "mlp", "loss": "mse"},
        _DENSE,
        slow=False,
    ),
    "composite-edge-drop": Case("composite", _COMPOSITE | {"auxiliary": "edge_drop", "estimator": "js"}, _DENSE),
    "composite-node-drop": Case("composite", _COMPOSITE | {"auxiliary": "node_drop", "edge_keep": 0.6}, ("text",)),
    "composite-no-ids": Case(
        "composite", _COMPOSITE | {"use_ids": False, "auxiliary": "dropout"}, (*_DENSE, "audio"), slow=False
    ),
    "composite-ids": Case("composite", _COMPOSITE, slow=False),
    "mmssl": Case("mmssl", _SMALL | {"num_neighbors": 4}, _DENSE),
    "mmssl-critic-dim": Case("mmssl", _SMALL | {"num_neighbors": 4, "critic_dim": 24}, _DENSE, slow=False),
    "mmssl-one": Case("mmssl", _SMALL | {"num_neighbors": 4}, ("text",), slow=False),
    "mmssl-three": Case("mmssl", _SMALL | {"num_neighbors": 4}, (*_DENSE, "audio"), slow=False),
    "mmssl-released": Case("mmssl", _MMSSL_RELEASED, _DENSE, slow=False),
    "mmssl-no-graphs": Case("mmssl", _SMALL | {"modality_graphs": "none", "critic_norm": "layer"}, _DENSE, slow=False),
    "mmssl-without-asl": Case(
        "mmssl", _SMALL | {"adversarial": "none", "modality_graphs": "observed"}, _DENSE, slow=False
    ),
    "mmssl-without-cl-gt": Case("mmssl", _SMALL | {"contrast_weight": 0.0, "bridge": False}, _DENSE, slow=False),
    "mmssl-gae": Case("mmssl", _SMALL | {"num_neighbors": 4, "adversarial": "gae"}, _DENSE, slow=False),
    # a weight of 0: what it weighs is neither built nor computed ("-alone": the main loss is left)
    "lattice-frozen": Case("lattice", _SMALL | {"num_neighbors": 4, "frozen_weight": 1.0}, _DENSE, slow=False),
    "lattice-learned": Case("lattice", _SMALL | {"num_neighbors": 4, "frozen_weight": 0.0}, _DENSE, slow=False),
    "bpr-alone": Case("bpr", _PLAIN, slow=False),
    "lightgcn-alone": Case("lightgcn", _PLAIN, slow=False),
    "vbpr-alone": Case("vbpr", _PLAIN, _DENSE, slow=False),
    "ngcf-alone": Case("ngcf", _PLAIN | {"layer_sizes": (16,)}, slow=False),
    "mmgcn-alone": Case("mmgcn", _PLAIN, _DENSE, slow=False),
    "grcn-alone": Case("grcn", _PLAIN, _DENSE, slow=False),
    "dualgnn-alone": Case("dualgnn", _USERS | _PLAIN, _DENSE, slow=False),
    "dragon-alone": Case("dragon", _USERS | _PLAIN | {"num_neighbors": 4}, _DENSE, slow=False),
    "cohesion-alone": Case("cohesion", _USERS | _PLAIN | {"num_neighbors": 4}, _DENSE, slow=False),
    "selfcf-alone": Case("selfcf", _PLAIN, slow=False),
    "lattice-alone": Case("lattice", _PLAIN | {"num_neighbors": 4}, _DENSE, slow=False),
    "micro-alone": Case("micro", _PLAIN | {"num_neighbors": 4, "contrast_weight": 0.0}, _DENSE, slow=False),
    "micro-frozen": Case("micro", _SMALL | {"num_neighbors": 4, "frozen_weight": 1.0}, _DENSE, slow=False),
    "micro-learned": Case("micro", _SMALL | {"num_neighbors": 4, "frozen_weight": 0.0}, _DENSE, slow=False),
    "damrs-alone": Case("damrs", _DAMRS | {"alignment_weight": 0.0, "discrimination_weight": 0.0}, _DENSE, slow=False),
    "freedom-alone": Case("freedom", _SMALL | {"modal_weight": 0.0, "num_neighbors": 4}, _DENSE, slow=False),
    "bm3-alone": Case("bm3", _PLAIN | {"modal_weight": 0.0}, _DENSE, slow=False),
    "mentor-alone": Case(
        "mentor",
        _MENTOR | _PLAIN | {"alignment": 0.0, "feature_masking": 0.0, "graph_perturbation": 0.0},
        _DENSE,
        slow=False,
    ),
    "idfree-alone": Case("idfree", _IDFREE | {"modal_weight": 0.0}, _DENSE, slow=False),
    "pgl-alone": Case("pgl", _PGL | {"contrast_weight": 0.0}, _DENSE, slow=False),
    "userec-alone": Case(
        "userec",
        _USEREC | _PLAIN | {"contrast_weight": 0.0, "attention_weight": 0.0, "behaviour": False},
        _DENSE,
        slow=False,
    ),
    "sgl-alone": Case("sgl", _PLAIN | {"contrast_weight": 0.0}, slow=False),
    "ncl-alone": Case("ncl", _PLAIN | {"num_layers": 1, "structure_weight": 0.0, "prototype_weight": 0.0}, slow=False),
    "hccf-alone": Case("hccf", _PLAIN | {"num_hyperedges": 4, "contrast_weight": 0.0}, slow=False),
    "slmrec-alone": Case("slmrec", _SMALL | {"ssl_weight": 0.0}, _DENSE, slow=False),
    "slmrec-fd-alone": Case("slmrec", _SMALL | {"ssl_task": "fd", "ssl_weight": 0.0}, _DENSE, slow=False),
    "lgmrec-alone": Case("lgmrec", _PLAIN | {"contrast_weight": 0.0}, _DENSE, slow=False),
    "lgmrec-local-alone": Case("lgmrec", _PLAIN | {"contrast_weight": 0.0, "alpha": 0.0}, _DENSE, slow=False),
    "lgmrec-contrast": Case("lgmrec", _SMALL | {"alpha": 0.0}, _DENSE, slow=False),
    "mgcn-alone": Case("mgcn", _PLAIN | {"num_neighbors": 4, "contrast_weight": 0.0}, _DENSE, slow=False),
    "composite-alone": Case(
        "composite", _COMPOSITE | _PLAIN | {"auxiliary": "edge_drop", "auxiliary_weight": 0.0}, _DENSE, slow=False
    ),
    "composite-mlp-alone": Case(
        "composite", _COMPOSITE | _PLAIN | {"auxiliary": "mlp", "auxiliary_weight": 0.0}, _DENSE, slow=False
    ),
    "mmssl-without-attention": Case("mmssl", _SMALL | {"num_neighbors": 4, "id_cat_rate": 0.0}, _DENSE, slow=False),
    "mmssl-alone": Case("mmssl", _MMSSL_ALONE, _DENSE, slow=False),
    "mmssl-without-content-alone": Case("mmssl", _MMSSL_ALONE | {"model_cat_rate": 0.0}, _DENSE, slow=False),
    "sasrec": Case("sasrec", _SEQUENCE),
    "sasrec-prefix": Case("sasrec", _SEQUENCE | {"targets": "prefix"}),
    "sasrec-sampled": Case("sasrec", _SEQUENCE | {"loss": "bce"}),
    "sasrecm": Case("sasrecm", _SEQUENCE, _VIEWS),
    "sasrecm-no-ids": Case("sasrecm", _SEQUENCE | {"use_ids": False}, _VIEWS),
    "msm4sr-pretraining": Case("msm4sr", _MSM4SR, _VIEWS, pretraining=True),
    "msm4sr-pretraining-one": Case("msm4sr", _MSM4SR, ("text",), pretraining=True),
    "msm4sr": Case("msm4sr", _MSM4SR, _VIEWS),
    "msm4sr-no-ids": Case("msm4sr", _MSM4SR | {"use_ids": False}, _VIEWS),
    # options of the models above
    "sasrec-sampled-softmax": Case("sasrec", _SEQUENCE | {"loss": "sampled_softmax", "num_negatives": 3}, slow=False),
    "sasrecm-gate": Case("sasrecm", _SEQUENCE | {"fuse": "gate"}, _VIEWS, slow=False),
    "sasrecm-concat": Case("sasrecm", _SEQUENCE | {"fuse": "concat"}, _VIEWS, slow=False),
    "sasrecm-tags": Case("sasrecm", _SEQUENCE, ("genre", "text"), slow=False),
    "sasrecm-dense": Case("sasrecm", _SEQUENCE, _DENSE, slow=False),
    "msm4sr-pretraining-prefix": Case("msm4sr", _MSM4SR | {"targets": "prefix"}, _VIEWS, pretraining=True, slow=False),
    "msm4sr-pretraining-intra": Case(
        "msm4sr", _MSM4SR | {"cmcl_negatives": "intra"}, _VIEWS, pretraining=True, slow=False
    ),
    "msm4sr-pretraining-dense": Case("msm4sr", _MSM4SR, _DENSE, pretraining=True, slow=False),
    "msm4sr-pretraining-three": Case("msm4sr", _MSM4SR, (*_VIEWS, "audio"), pretraining=True, slow=False),
    "msm4sr-end-to-end": Case("msm4sr", _MSM4SR | {"end_to_end": True}, _VIEWS, slow=False),
    "msm4sr-dot": Case("msm4sr", _MSM4SR | {"score": "dot"}, _VIEWS, slow=False),
    "msm4sr-dense": Case("msm4sr", _MSM4SR, _DENSE, slow=False),
}
TRAINED = [name for name, case in CASES.items() if model_class(case.model_type, pretraining=case.pretraining).stages]
SLOW = [name for name in TRAINED if CASES[name].slow]
