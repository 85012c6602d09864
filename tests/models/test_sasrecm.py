"""SASRecM: what goes into an item's vector."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from seqmm.data.synthetic import synthetic_corpus
from seqmm.models.sequential.sasrecm import SASRecM, SASRecMConfig

SMALL = {"hidden_size": 16, "inner_size": 32, "num_layers": 1, "max_length": 8, "dropout": 0.0}


def make(corpus, **options) -> SASRecM:
    torch.manual_seed(0)
    return SASRecM.for_corpus(SASRecMConfig(**(SMALL | options)), corpus)


@pytest.fixture(scope="module")
def corpus():
    whole = synthetic_corpus(30, 25, missing=0.2)
    return replace(whole, features={name: whole.features[name] for name in ("image", "genre", "text_vector")})


def test_item_vector_is_the_sum_of_its_sources(corpus):
    model = make(corpus)
    assert model.modalities == ["genre", "image", "text_vector"]
    items = model.items()
    image, text, genre = (corpus.features[name] for name in ("image", "text_vector", "genre"))
    assert min(image.offsets[i + 1] - image.offsets[i] for i in range(25)) == 0
    for i in range(25):
        rows = torch.from_numpy(image.values[image.offsets[i] : image.offsets[i + 1]])
        mean = rows.mean(0) if len(rows) else torch.zeros(image.dim)
        tags = genre.values[genre.offsets[i] : genre.offsets[i + 1]].tolist()
        expected = (
            model.item.weight[i]
            + model.project["image"](F.normalize(mean, dim=0))
            + model.project["text_vector"](F.normalize(torch.from_numpy(text.values[i]), dim=0))
            + sum(model.project["genre"].weight[tag] for tag in tags) / len(tags)
        )
        torch.testing.assert_close(items[i], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fuse", ["sum", "concat", "gate"])
@pytest.mark.parametrize("use_ids", [True, False])
def test_every_parameter_is_trained(corpus, fuse, use_ids):
    model = make(corpus, fuse=fuse, use_ids=use_ids)
    collator = model.stages[0].collator(corpus, 0, **model.collator_options(0))
    model(collator(0, collator.batches(0, 32)[0]))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-9, name
    assert ("item.weight" in model.state_dict()) == use_ids


def test_without_ids_new_items_are_scored(corpus, tmp_path):
    """A model without ids follows its features to a catalogue of another size."""
    make(corpus, use_ids=False).save_pretrained(tmp_path)
    larger = synthetic_corpus(12, 31, missing=0.2)
    larger = replace(larger, features={name: larger.features[name] for name in corpus.features})
    model = SASRecM.from_pretrained(tmp_path).bind(larger).eval()
    batch = {"history": torch.tensor([[30, 2]]), "mask": torch.ones(1, 2, dtype=torch.bool)}
    assert model.score(batch, model.tables()).shape == (1, 31)
    with pytest.raises(ValueError, match="num_items = 25"):
        make(corpus).bind(larger)


def test_modalities_are_chosen_by_name(corpus):
    assert list(make(corpus, modalities=("image",)).project) == ["image"]
    with pytest.raises(ValueError, match="'images'.*image, genre, text_vector"):
        make(corpus, modalities=("images",))
    with pytest.raises(ValueError, match="use_ids"):
        make(replace(corpus, features={}), use_ids=False)
