"""The generated corpus really has the structure it promises."""

import numpy as np
import pytest

from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus, write_synthetic
from seqmm.names import PROTOCOLS


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_protocols(protocol):
    corpus = synthetic_corpus(protocol=protocol)
    assert all(len(part) > 100 for part in corpus.splits.values())
    assert corpus.fingerprint() == synthetic_corpus(protocol=protocol).fingerprint()
    assert corpus.fingerprint() != synthetic_corpus(protocol=protocol, seed=1).fingerprint()


def test_planted_structure():
    corpus = synthetic_corpus(500, 100)
    kind = corpus.features["genre"].values[::2]
    items = corpus.histories("train")
    pairs = np.concatenate([np.stack([items[u][:-1], items[u][1:]], 1) for u in range(500)])
    assert (kind[pairs[:, 0]] == kind[pairs[:, 1]]).mean() > 0.5  # a user stays in a cluster (chance: .125)
    counts = np.zeros((100, 100))
    np.add.at(counts, (pairs[:, 0], pairs[:, 1]), 1)
    assert (counts.max(1) / counts.sum(1)).mean() > 0.3  # and goes from an item to its successor
    for name in ("text_vector", "image_vector"):
        vectors = corpus.features[name].values
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosine = unit @ unit.T
        same = kind[:, None] == kind
        np.fill_diagonal(same, False)
        assert cosine[same].mean() > cosine[~same].mean() + 0.5
    train = corpus.splits["train"]
    ties = (np.diff(train.timestamp) == 0)[np.diff(train.user) == 0].mean()
    assert 0.2 < ties < 0.5


def test_index_order_source_tells_the_smallest_item():
    def smallest(corpus):
        rows = [np.concatenate([corpus.histories("test")[u], corpus.targets("test")[u]]) for u in range(200)]
        return np.array([row.min() for row in rows])

    assert (np.diff(smallest(synthetic_corpus(index_order="source"))) >= 0).all()
    assert (np.diff(smallest(synthetic_corpus())) < 0).any()


def test_options():
    corpus = synthetic_corpus(modalities=("audio",), missing=0.5)
    assert list(corpus.features) == ["audio", "audio_vector", "genre"]
    empty = np.diff(corpus.features["audio"].offsets) == 0
    assert 0.3 < empty.mean() < 0.7
    assert (corpus.features["audio_vector"].values[empty] == 0).all()
    tiny = synthetic_corpus(5, 3)
    assert sum(len(part) for part in tiny.splits.values()) == 15


def test_texts_and_pictures(tmp_path):
    from PIL import Image

    from seqmm.data.store import read_items

    corpus = synthetic_corpus(20, 24)
    write_synthetic(tmp_path / "c", corpus)
    assert Corpus.load(tmp_path / "c", features=tuple(corpus.features)).fingerprint() == corpus.fingerprint()
    kind = corpus.features["genre"].values[::2]
    colours = {}
    for item, name in enumerate(corpus.item_ids):
        image = np.asarray(Image.open(tmp_path / "c" / "images" / f"{name}.png"))
        drawn = image.reshape(-1, 3)[(image.reshape(-1, 3) != (245, 245, 240)).any(1)]
        values, counts = np.unique(drawn, axis=0, return_counts=True)
        colours.setdefault(kind[item], set()).add(tuple(values[counts.argmax()].tolist()))
    assert all(len(shades) == 1 for shades in colours.values())  # a cluster has one colour
    assert len(set.union(*colours.values())) == len(colours)  # and no two share it
    assert read_items(tmp_path / "c")["description"][0].as_py().count(".") == 3
