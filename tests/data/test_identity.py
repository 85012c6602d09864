"""Feature sets are matched by what they are, not by what they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from seqmm.data.feature_sets import Features
from seqmm.data.feature_store import stored_sets
from seqmm.data.identity import describe, difference, match_sets
from seqmm.data.synthetic import synthetic_corpus

MINILM = {"encoder": "all-MiniLM-L6-v2", "weights": "7f32", "pooling": "mean", "unit": "sentence"}
CLIP = {"encoder": "CLIP ViT-B-32", "weights": "a1b2", "pooling": "image tower, norm 1", "unit": "item"}
SAID = {"who": "corpus 'mine'", "whose": "the checkpoint runs/x", "remedy": "name it"}


def vectors(provenance, dim=4, kind="dense"):
    return {"kind": kind, "dim": dim, "provenance": provenance}


def tags(*words):
    offsets = np.arange(len(words) + 1)
    return describe(Features("tags", np.arange(len(words)), offsets, words, {"column": "genres"}))


def test_equal_names_come_first_then_the_only_equal_set():
    theirs = {"title_sentences": vectors(MINILM), "plot_sentences": vectors(MINILM), "image": vectors(CLIP)}
    assert match_sets({"image": vectors(CLIP)}, theirs, **SAID) == {"image": "image"}
    assert match_sets({"cover": vectors(CLIP)}, theirs, **SAID) == {"cover": "image"}
    ours = {"blurb_sentences": vectors(MINILM), "title_sentences": vectors(MINILM)}
    found = match_sets(ours, theirs, **SAID)
    assert found == {"blurb_sentences": "plot_sentences", "title_sentences": "title_sentences"}
    assert list(found) == list(ours)


def test_a_name_alone_does_not_make_two_sets_one():
    """The names are exchanged, and each set finds its like."""
    ours = {"a": vectors(MINILM), "b": vectors(CLIP)}
    theirs = {"a": vectors(CLIP), "b": vectors(MINILM)}
    assert match_sets(ours, theirs, **SAID) == {"a": "b", "b": "a"}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"encoder": "sentence-transformers/all-MiniLM-L6-v2", "revision": "c9745ed"}, True),  # the same weights
        ({"missing": "mean vector"}, True),
        ({"weights": "0000"}, False),
        ({"pooling": "cls"}, False),
        ({"unit": "item"}, False),
        ({"prompt": "a photo of {}"}, False),
    ],
)
def test_what_makes_two_sets_the_same(change, same):
    one, other = vectors(MINILM), vectors(MINILM | change)
    assert (difference(one, other) is None) is same
    assert difference(one, vectors(MINILM, dim=5)) == ("width", 4, 5)
    assert difference(one, vectors(MINILM, kind="ragged")) == ("kind", "dense", "ragged")


def test_without_a_digest_the_label_counts():
    assert difference(vectors({"encoder": "mine"}), vectors({"encoder": "yours"})) == (
        "provenance.encoder",
        "mine",
        "yours",
    )
    known, unknown = vectors({"encoder": "mine", "weights": "7f32"}), vectors({"encoder": "mine"})
    assert difference(known, unknown) == ("provenance.weights", "7f32", None)


def test_tags_are_their_vocabulary():
    assert match_sets({"genre": tags("a", "b")}, {"genres": tags("a", "b")}, **SAID) == {"genre": "genres"}
    with pytest.raises(ValueError, match="'genres' of the checkpoint runs/x has vocabulary"):
        match_sets({"genres": tags("a", "b")}, {"genres": tags("b", "a")}, **SAID)


def test_vectors_of_an_unknown_encoder_are_nothing_but_their_name():
    assert match_sets({"mine": vectors({})}, {"mine": vectors({})}, **SAID) == {"mine": "mine"}
    with pytest.raises(ValueError, match=r"corpus 'mine' needs feature set 'text' \(dense, 4\).*it has 'image'"):
        match_sets({"text": vectors({})}, {"image": vectors({})}, **SAID)


def test_several_equal_ones_are_an_error_that_names_them():
    theirs = {"title": vectors(MINILM), "plot": vectors(MINILM), "image": vectors(CLIP)}
    message = "'blurb' of corpus 'mine' may be 'title', 'plot' of the checkpoint runs/x.*which is which[?] name it"
    with pytest.raises(ValueError, match=message):
        match_sets({"blurb": vectors(MINILM)}, theirs, **SAID)
    with pytest.raises(ValueError, match="'one', 'two' of corpus 'mine' may be 'image'"):
        match_sets({"one": vectors(CLIP), "two": vectors(CLIP)}, theirs, **SAID)
    found = match_sets({"blurb": vectors(MINILM)}, theirs, rename={"blurb": "plot"}, **SAID)
    assert found == {"blurb": "plot"}


def test_renaming_goes_before_provenance_and_is_checked():
    ours, theirs = {"text": vectors({"encoder": "some file"})}, {"text": vectors(MINILM), "image": vectors(CLIP, dim=5)}
    with pytest.raises(ValueError, match="'text' of the checkpoint runs/x has provenance.*but that of corpus 'mine'"):
        match_sets(ours, theirs, **SAID)
    assert match_sets(ours, theirs, rename={"text": "text"}, **SAID) == {"text": "text"}
    with pytest.raises(ValueError, match="'text' .dense, 4.* cannot be 'image' .dense, 5.*: they differ in dim"):
        match_sets(ours, theirs, rename={"text": "image"}, **SAID)
    with pytest.raises(ValueError, match="the checkpoint runs/x has no feature set 'texts'; it has 'text', 'image'"):
        match_sets(ours, theirs, rename={"text": "texts"}, **SAID)
    with pytest.raises(ValueError, match="corpus 'mine' has no feature set 'texts'; it has 'text'"):
        match_sets(ours, theirs, rename={"texts": "text"}, **SAID)
    twice = {"one": vectors(MINILM), "two": vectors(MINILM)}
    with pytest.raises(ValueError, match="stands for two"):
        match_sets(twice, theirs, rename={"one": "text", "two": "text"}, **SAID)


def test_what_is_not_needed_is_left_out():
    ours = {"text": vectors(MINILM), "image": vectors(CLIP)}
    assert match_sets(ours, {"title": vectors(MINILM)}, needed=False, **SAID) == {"text": "title"}
    assert match_sets(ours, {}, needed=False, **SAID) == {}


def test_a_folder_tells_what_loading_would(tmp_path):
    corpus = synthetic_corpus(30, 20)
    corpus = replace(corpus, features={name: corpus.features[name] for name in ("text", "image_vector", "genre")})
    corpus.save(tmp_path / "c")
    assert stored_sets(tmp_path / "c") == {name: describe(made) for name, made in corpus.features.items()}
