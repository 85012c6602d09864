from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seqmm.features.encoders.clip import Clip
from seqmm.features.encoders.taggers import ClipTagger, ImageNetTagger, rank_words
from seqmm.features.extractors.image_keywords import ClassesToWords
from seqmm.features.vocabulary import build_vocabulary, part_of_speech, read_vocabulary

VOCABULARY = ["cat", "dog", "red", "blue", "car", "tree", "house", "night", "sea", "war"]


def noise(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("template", ["{}", "a poster of {}"])
def test_clip_ranking_equals_direct_calls(clip: str, template: str) -> None:
    import open_clip

    images = noise(5)
    tagger = ClipTagger(Clip(clip, device="cpu"), template)
    seen = np.concatenate([tagger.see(images[:2]), tagger.see(images[2:])])
    keywords = rank_words(seen, tagger.words(VOCABULARY), VOCABULARY, top=4)

    model, transform = open_clip.create_model_from_pretrained(clip)
    model.eval()
    tokens = open_clip.get_tokenizer(clip)([template.format(word) for word in VOCABULARY])
    with torch.inference_mode():
        text = torch.nn.functional.normalize(model.encode_text(tokens), dim=-1)
        for image, words in zip(images, keywords, strict=True):
            vector = torch.nn.functional.normalize(model.encode_image(transform(image)[None]), dim=-1)
            best = (vector @ text.T)[0].argsort(descending=True)[:4]
            assert words == [VOCABULARY[index] for index in best]
    assert len({tuple(words) for words in keywords}) > 1
    assert tagger.provenance["prompt"] == template


def test_clip_words(clip: str) -> None:
    tagger = ClipTagger(Clip(clip, device="cpu"))
    vectors = tagger.words(VOCABULARY)
    assert vectors.shape == (len(VOCABULARY), tagger.dim) and tagger.words([]).shape == (0, tagger.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    with pytest.raises(ValueError, match="'a photo' needs one {}"):
        ClipTagger(tagger.clip, "a photo")


def test_clip_by_name_needs_its_weights() -> None:
    with pytest.raises(ValueError, match="which weights .*laion2b_s34b_b79k"):
        Clip("ViT-B-32")
    with pytest.raises(ValueError, match="no such model"):
        Clip("ViT-Z-99")


class FakeEncoder:
    """Words on the axes of a small space."""

    dim = 3
    axes = {"jacket": 0, "volcano": 1, "gorilla": 2, "book": 0, "lava": 1, "ape": 2}

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[[self.axes[text] for text in texts]]


class FakeBackbone:
    dim = 3
    provenance = {"encoder": "fake", "weights": "0"}
    num_classes = 1000

    @staticmethod
    def class_names() -> list[str]:
        return ["jacket, dust jacket", "volcano", "gorilla, Gorilla gorilla"]


def test_imagenet_keywords_discount_what_every_image_has() -> None:
    """All images are first of all a jacket; the words follow what sets each one apart."""
    tagger = ImageNetTagger(FakeBackbone(), FakeEncoder())  # type: ignore[arg-type]
    seen = np.array([[0.7, 0.3, 0.0], [0.7, 0.0, 0.3], [0.9, 0.05, 0.05]])
    placed = tagger.place(seen, seen.mean(0))
    best = rank_words(placed - placed.mean(0), np.eye(3), ["book", "lava", "ape"], 1)
    assert best == [["lava"], ["ape"], ["book"]]
    assert "not CLIP" in tagger.provenance["tagger"]
    blocks = [seen[:1], seen[1:1], seen[1:]]  # the same over blocks of images, one of them empty
    transform = ClassesToWords(tagger, tagger.encoder, ["book", "lava", "ape"], 1)
    for number in range(transform.passes):
        for block in blocks:
            transform.update(number, block)
        transform.end_pass(number)
    vectors, words = zip(*map(transform, blocks), strict=True)
    assert sum(words, []) == ["lava", "ape", "book"]  # one string for each image
    assert np.concatenate(vectors).tolist() == np.eye(3)[[1, 2, 0]].tolist()
    backbone = FakeBackbone()
    backbone.num_classes = 21_843
    with pytest.raises(ValueError, match="fake has 21843 classes"):
        ImageNetTagger(backbone, FakeEncoder())  # type: ignore[arg-type]


def test_rank_words_by_a_loop_over_blocks() -> None:
    rng = np.random.default_rng(1)
    images, words = rng.normal(size=(1500, 6)), rng.normal(size=(len(VOCABULARY), 6))
    ranked = rank_words(images, words, VOCABULARY, top=3)
    for image, row in zip(images, ranked, strict=True):
        scores = sorted(range(len(VOCABULARY)), key=lambda index: -float(image @ words[index]))
        assert row == [VOCABULARY[index] for index in scores[:3]]
    tied = np.array([[1.0, 0], [2, 0], [1, 0], [2, 0], [1, 0]])
    assert rank_words(np.ones((1, 2)), tied, list("edcba"), top=4) == [["d", "b", "e", "c"]]
    assert rank_words(np.ones((1, 2)), np.ones((4, 2)), list("dcba"), top=2) == [["d", "c"]]  # ties: vocabulary order
    with pytest.raises(ValueError, match="10 words cannot give 15"):
        rank_words(images, words, VOCABULARY)


def test_vocabulary_drops_function_words_names_and_rare_words() -> None:
    texts = [
        "Then the pirate Jack finds a ship, and the pirate wins.",
        "A pirate ship called Jack's",
        "ship | pirate | Jack",
    ]
    assert build_vocabulary(texts, min_count=2) == ["pirate", "ship"]
    assert build_vocabulary([*texts, "A pirate"], min_count=2)[0] == "pirate"
    assert build_vocabulary(texts, min_count=1, max_words=1) == ["pirate"]


def test_vocabulary_by_part_of_speech() -> None:
    pytest.importorskip("textblob", reason="the extra pos is not installed")
    texts = [
        "A lonely robot quickly paints beautiful red flowers.",
        "The robot wants red flowers in a rusty garden; Berlin sleeps.",
        "Berlin: a lonely robot slowly walks the rusty garden.",
        "Robot",
    ]
    words = build_vocabulary(texts, min_count=1, part_of_speech=part_of_speech("textblob"))
    assert words[0] == "robot"
    assert {"lonely", "beautiful", "red", "flowers", "rusty", "garden"} <= set(words)
    assert not {"quickly", "slowly", "walks", "sleeps", "berlin", "wants"} & set(words)


def test_vocabulary_by_any_tagger() -> None:
    """A word counts by what it is more often than not."""

    def tagger(text: str) -> list[tuple[str, str]]:
        words = text.split()
        return [(word, "NN" if before == "the" else "VBP") for before, word in zip(["", *words], words, strict=False)]

    texts = ["they watch the watch", "the watch", "they paint the paint and paint"]
    assert build_vocabulary(texts, min_count=1, part_of_speech=tagger) == ["watch"]


def test_taggers_that_cannot_be_had(monkeypatch) -> None:
    import sys

    with pytest.raises(ValueError, match="no tagger 'spacy'; give textblob or nltk"):
        part_of_speech("spacy")  # type: ignore[arg-type]
    for name, module in (("textblob", "textblob.en.taggers"), ("nltk", "nltk")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ValueError, match=r'pip install "seqmm\[pos\]"'):
            part_of_speech(name)  # type: ignore[arg-type]


def test_nltk_without_its_data_names_the_remedy(monkeypatch) -> None:
    nltk = pytest.importorskip("nltk", reason="the extra pos is not installed")
    monkeypatch.setattr(nltk.data, "path", [])
    with pytest.raises(FileNotFoundError, match="python -m nltk.downloader averaged_perceptron_tagger_eng"):
        part_of_speech("nltk")


def test_vocabulary_file(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("red\n\n ball \nred\n")
    assert read_vocabulary(file) == ["red", "ball"]
    file.write_text("\n")
    with pytest.raises(ValueError, match="holds no word"):
        read_vocabulary(file)
    with pytest.raises(FileNotFoundError, match="no vocabulary file"):
        read_vocabulary(tmp_path / "none.txt")
