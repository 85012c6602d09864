"""One place says which feature sets a model reads: both halves choose, refuse and bind alike."""

from __future__ import annotations

import pytest
import torch

from seqmm.models.base import RecommenderConfig
from seqmm.models.content import VECTORS, check_modalities, choose_modalities, feature_tables
from seqmm.models.registry import model_class
from tests.cases import CASES


def config(**kinds):
    made = RecommenderConfig()
    made.features = {name: {"kind": kind, "dim": 3} for name, kind in kinds.items()}
    made.feature_order = list(kinds)
    return made


def test_wanted_sets_are_sorted_and_refused_by_kind():
    both = config(words="ragged", brand="tags", image="dense")
    assert choose_modalities(both, ()) == ["brand", "image", "words"]
    assert choose_modalities(both, (), VECTORS) == ["image", "words"]
    assert choose_modalities(both, ("words", "image"), VECTORS) == ["image", "words"]
    with pytest.raises(ValueError, match=r"names 'brand', which is not among .* dense or ragged .*\(words, image\)"):
        choose_modalities(both, ("brand",), VECTORS)
    with pytest.raises(ValueError, match=r"'sound', .*\(none loaded\)"):
        choose_modalities(config(), ("sound",))


def test_too_few_sets_or_tags_are_refused():
    check_modalities(config(image="dense"))
    check_modalities(config(), 0)
    with pytest.raises(ValueError, match=r"needs at least 1 dense or ragged .*loaded with: none; name .*, or else"):
        check_modalities(config(), instead=", or else")
    with pytest.raises(ValueError, match=r"feature set 'brand' holds tags.*leave it out"):
        check_modalities(config(image="dense", brand="tags"))


@pytest.mark.parametrize("name", ["vbpr", "msm4sr", "sasrecm"])
def test_both_halves_refuse_a_corpus_without_content_alike(name):
    case = next(case for case in CASES.values() if case.model_type == name and not case.pretraining)
    corpus = CASES["bpr"].corpus()
    options = case.options | ({"use_ids": False} if name == "sasrecm" else {})
    with pytest.raises(
        ValueError, match=rf"{name} needs at least 1 .* loaded with: none; name them with `data.features`"
    ):
        cls = model_class(name)
        cls.for_corpus(cls.config_class(**options), corpus)


@pytest.mark.parametrize("name", ["freedom", "bm3"])
def test_a_model_that_can_do_without_content_says_that_it_does(name, caplog):
    cls = model_class(name)
    cls.for_corpus(cls.config_class(hidden_size=8), CASES["bpr"].corpus())
    assert f"{name} was given no feature set of the items and learns from interactions alone" in caplog.text


@pytest.mark.parametrize("name", ["vbpr", "msm4sr", "sasrecm"])
def test_what_is_bound_are_the_corpus_rows(name):
    case = next(case for case in CASES.values() if case.model_type == name and case.features)
    corpus = case.corpus()
    model = case.model(corpus)
    tables = feature_tables(model, corpus)
    assert sorted(tables) == sorted(model.config.reads())
    for read, table in tables.items():
        values = table.on(torch.device("cpu"))[0].numpy()
        assert values.shape == corpus.features[read].values.shape and (values == corpus.features[read].values).all()
