"""Finetuning and binding on corpora whose feature sets carry other names, or are fewer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.checkpoint import from_pretrained, start_from
from seqmm.models.registry import model_class

SMALL = {"hidden_size": 16, "inner_size": 32, "num_layers": 1, "max_length": 20, "num_experts": 2}


def renamed(corpus: Corpus, names: Mapping[str, str]) -> Corpus:
    """The corpus with its sets ``names`` alone, each called by its value."""
    return replace(corpus, features={new: corpus.features[old] for old, new in names.items()})


def synthetic(*names: str, seed: int = 0) -> Corpus:
    return renamed(synthetic_corpus(40, 30, mean_length=8, seed=seed), {name: name for name in names})


def pretrained(folder, corpus, model_type="msm4sr", **options):
    """A checkpoint whose parameters are all random, saved to ``folder``."""
    cls = model_class(model_type, pretraining=model_type == "msm4sr")
    torch.manual_seed(0)
    model = cls.for_corpus(cls.config_class(**options), corpus)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(folder)
    return model


def start(folder, corpus, model_type="msm4sr", rename=None, **options):
    cls = model_class(model_type)
    return start_from(cls, str(folder), cls.config_class(**options), corpus, rename=rename or {})


def tables(model, corpus):
    with torch.no_grad():
        return model.bind(corpus).eval().tables()["items"]


def test_sets_of_other_names_get_the_weights_of_their_like(tmp_path):
    """The names change places, and so does their order in the alphabet: the weights follow the sets."""
    before = pretrained(tmp_path, synthetic("text", "image"), **SMALL).state_dict()
    own = renamed(synthetic("text", "image", seed=1), {"text": "image", "image": "words"})
    model = start(tmp_path, own, end_to_end=True, **SMALL)
    assert model.encoder.modalities == ["words", "image"], "in the checkpoint's order: its image, its text"
    after = model.state_dict()
    for part in ("pool", "adapt"):
        for ours, theirs in (("image", "text"), ("words", "image")):
            keys = [key for key in before if key.startswith(f"encoder.{part}.{theirs}.")]
            assert keys
            for key in keys:
                assert torch.equal(after[key.replace(f".{theirs}.", f".{ours}.")], before[key]), key
    assert torch.equal(after["supervision.weight"], before["supervision.weight"]), "a projection a modality, by place"
    assert model.config.features["words"]["pretrained_as"] == "image"

    model.save_pretrained(tmp_path / "fine")
    again = from_pretrained(str(tmp_path / "fine"))
    assert again.encoder.modalities == ["words", "image"]
    assert torch.equal(tables(again, own), tables(model, own))


def test_renamed_sets_give_the_same_model_as_those_of_equal_name(tmp_path):
    pretrained(tmp_path, synthetic("text", "image"), **SMALL)
    same = synthetic("text", "image", seed=1)
    other = renamed(same, {"image": "z_cover", "text": "a_title"})
    models = []
    for corpus in (same, other):
        torch.manual_seed(5)
        models.append(start(tmp_path, corpus, **SMALL).eval())
    batch = {"history": torch.tensor([[1, 2, 3]]), "mask": torch.ones(1, 3, dtype=torch.bool)}
    scores = [model.score(batch, model.tables()) for model in models]
    assert torch.equal(*scores)


@pytest.mark.parametrize("ours", [{"text": "words"}, {"image": "text"}])
def test_fewer_modalities_than_were_pretrained(tmp_path, ours):
    before = pretrained(tmp_path, synthetic("text", "image"), **SMALL).state_dict()
    ((theirs, name),) = ours.items()
    model = start(tmp_path, renamed(synthetic(theirs, seed=1), ours), **SMALL)
    assert model.encoder.modalities == [name]
    after = model.state_dict()
    for key in before:
        if f".{theirs}." in key:
            assert torch.equal(after[key.replace(f".{theirs}.", f".{name}.")], before[key]), key
    assert sum(f".{name}." in key for key in after) == sum(f".{theirs}." in key for key in before)


def test_sets_the_model_does_not_read_are_not_asked_for(tmp_path):
    """Tags are nothing to MSM4SR, wherever they are, and neither is what model.modalities leaves out."""
    pretrained(tmp_path, synthetic("text", "image", "genre"), **SMALL)
    own = synthetic("text", "image_vector", seed=1)
    model = start(tmp_path, own, modalities=("text",), **SMALL)
    model.save_pretrained(tmp_path / "fine")
    from_pretrained(str(tmp_path / "fine")).bind(synthetic("text", seed=1))


def test_more_modalities_than_were_pretrained_are_refused(tmp_path):
    pretrained(tmp_path, synthetic("text"), **SMALL)
    message = r"needs feature set 'image' \(ragged, 20, synthetic\).*has no equal one; it has 'text'.*`data.features`"
    with pytest.raises(ValueError, match=message):
        start(tmp_path, synthetic("text", "image", seed=1), **SMALL)


def test_a_model_without_an_encoder_starts_a_new_modality_fresh_and_says_so(tmp_path, caplog):
    options = {"hidden_size": 16, "inner_size": 32, "num_layers": 1}
    before = pretrained(tmp_path, synthetic("text"), "sasrecm", **options)
    own = renamed(synthetic("text", "genre", seed=1), {"text": "words", "genre": "genre"})
    with caplog.at_level(logging.WARNING):
        model = start(tmp_path, own, "sasrecm", **options)
    assert "genre, whose weights start fresh" in caplog.text
    assert torch.equal(model.project["words"].weight, before.project["text"].weight)


def test_several_equal_sets_are_told_apart_by_hand(tmp_path):
    whole = synthetic("text")
    twins = renamed(whole, {"text": "title"})
    twins = replace(twins, features=twins.features | {"plot": whole.features["text"]})
    before = pretrained(tmp_path, twins, **SMALL).state_dict()
    own = renamed(synthetic("text", seed=1), {"text": "blurb"})
    with pytest.raises(
        ValueError, match=r"'blurb' of corpus .* may be 'plot', 'title' of the checkpoint .*`data.rename=OURS=THEIRS`"
    ):
        start(tmp_path, own, **SMALL)
    model = start(tmp_path, own, rename={"blurb": "plot"}, **SMALL)
    (key, *_) = model.encoder.pool["blurb"].state_dict()
    assert torch.equal(model.encoder.pool["blurb"].state_dict()[key], before[f"encoder.pool.plot.{key}"])


def test_renaming_bridges_an_unlike_record(tmp_path):
    pretrained(tmp_path, synthetic("text"), **SMALL)
    own = synthetic("text", seed=1)
    own = replace(own, features={"text": replace(own.features["text"], provenance={"encoder": "by hand"})})
    with pytest.raises(ValueError, match="provenance.encoder 'synthetic', but that of corpus .* has 'by hand'"):
        start(tmp_path, own, **SMALL)
    assert start(tmp_path, own, rename={"text": "text"}, **SMALL).encoder.modalities == ["text"]


@pytest.mark.parametrize("model_type", ["vbpr", "mgcn", "mentor", "grcn", "pgl", "sasrecm", "composite"])
def test_a_loaded_model_binds_to_renamed_sets(tmp_path, model_type):
    corpus = synthetic("text_vector", "image_vector")
    cls = model_class(model_type)
    model = cls.for_corpus(cls.config_class(hidden_size=16), corpus).eval()
    model.save_pretrained(tmp_path)
    other = renamed(synthetic("text_vector", "image_vector", "genre"), {"image_vector": "text", "text_vector": "video"})
    with torch.no_grad():
        again = from_pretrained(str(tmp_path)).bind(other).eval()
        assert torch.equal(again.tables()["items"], model.tables()["items"])
    with pytest.raises(ValueError, match="the model needs feature set 'text_vector'.*the corpus was|load the corpus"):
        from_pretrained(str(tmp_path)).bind(renamed(other, {"text": "text"}))


@pytest.mark.parametrize("model_type", ["vbpr", "grcn", "mmgcn"])
def test_parameters_by_modality_follow_their_set(tmp_path, model_type):
    corpus = synthetic("text_vector", "image_vector")
    before = pretrained(tmp_path, corpus, model_type, hidden_size=16)
    other = renamed(corpus, {"image_vector": "text_vector", "text_vector": "image_vector"})  # names exchanged
    model = start(tmp_path, other, model_type, hidden_size=16)
    assert model.config.feature_order == ["image_vector", "text_vector"]
    with torch.no_grad():
        assert torch.equal(model.eval().tables()["items"], before.bind(corpus).eval().tables()["items"])
