import numpy as np
import pytest
import torch
from PIL import Image

from seqmm.features.keywords import ClipTagger, ImageNetTagger, build_vocabulary, rank_words

VOCABULARY = ["cat", "dog", "red", "blue", "car", "tree", "house", "night", "sea", "war"]


def noise(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.mark.parametrize("template", ["{}", "a poster of {}"])
def test_clip_ranking_equals_direct_calls(clip: str, template: str) -> None:
    import open_clip

    images = noise(5)
    tagger = ClipTagger(clip, template=template, device="cpu")
    seen = np.concatenate([tagger.see(images[:2]), tagger.see(images[2:])])
    keywords = tagger.keywords(seen, VOCABULARY, top=4)

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


def test_clip_by_name_needs_its_weights() -> None:
    with pytest.raises(ValueError, match="which weights .*laion2b_s34b_b79k"):
        ClipTagger("ViT-B-32")
    with pytest.raises(ValueError, match="no such model"):
        ClipTagger("ViT-Z-99")


class FakeEncoder:
    """Words on the axes of a small space."""

    axes = {"jacket": 0, "volcano": 1, "gorilla": 2, "book": 0, "lava": 1, "ape": 2}

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[[self.axes[text] for text in texts]]


class FakeBackbone:
    provenance = {"encoder": "fake", "weights": "0"}
    num_classes = 1000

    @staticmethod
    def class_names() -> list[str]:
        return ["jacket, dust jacket", "volcano", "gorilla, Gorilla gorilla"]


def test_imagenet_keywords_discount_what_every_image_has() -> None:
    """All images are first of all a jacket; the words follow what sets each one apart."""
    tagger = ImageNetTagger(FakeBackbone(), FakeEncoder())  # type: ignore[arg-type]
    seen = np.array([[0.7, 0.3, 0.0], [0.7, 0.0, 0.3], [0.9, 0.05, 0.05]])
    words = tagger.keywords(seen, ["book", "lava", "ape"], top=1)
    assert words == [["lava"], ["ape"], ["book"]]
    assert "not CLIP" in tagger.provenance["tagger"]
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
