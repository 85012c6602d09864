"""Images to keywords (MSM4SR): every word of a vocabulary is ranked for an image, the best ones become one string."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from seqmm.features.encoders.clip import check_template
from seqmm.features.encoders.text import Encoder

if TYPE_CHECKING:
    from PIL import Image

    from seqmm.features.encoders.clip import Clip
    from seqmm.features.encoders.images import ImageBackbone


TOP_WORDS = 15
"""Words of an image (the paper's N)."""


class ClipTagger:
    """CLIP by open_clip: words by the cosine of their text vector to the image vector, which depends on no other image.

    :meth:`words` once, then for each block of images :meth:`see` and :func:`rank_words`.

    Args:
        clip: with both towers.
        template: prompt around a word; the paper's is the bare word.

    Raises:
        ValueError: a template without "{}".
    """

    def __init__(self, clip: Clip, template: str = "{}"):
        self.template = check_template(template)
        self.clip, self.dim = clip, clip.dim
        about = clip.provenance
        self.provenance = {
            "tagger": about["encoder"],
            "tagger_weights": about["weights"],
            "tagger_dtype": about["dtype"],
            "prompt": template,
            **({"tagger_revision": about["revision"]} if "revision" in about else {}),
        }

    def see(self, images: Sequence[Image.Image]) -> np.ndarray:
        """``[b, d]`` image vectors of norm 1."""
        return self.clip.images(images)

    def words(self, vocabulary: Sequence[str]) -> np.ndarray:
        """``[V, d]`` text vectors of the words in the template, of norm 1."""
        from tqdm import tqdm

        vectors = [np.zeros((0, self.dim), np.float32)]
        for start in tqdm(range(0, len(vocabulary), 256), desc="words", unit="batch", leave=False, disable=None):
            prompts = [self.template.replace("{}", word) for word in vocabulary[start : start + 256]]
            vectors.append(self.clip.texts(prompts))
        return np.concatenate(vectors)


class ImageNetTagger:
    """ImageNet classes: an image is the mean vector of its classes' names, words are ranked by cosine to it.

    Class probabilities are divided by their mean over the images (plus 1/1000): most posters are a "book jacket" or a
    "comic book" to the classifier, which says that they are posters, not what they show. The resulting vectors are
    centred. On 4,419 posters, ten nearest neighbours by the encoded keywords then share .203 of their genres (Jaccard),
    against .192 without the two, .175 at random, and .250 by the classifier's pooled vector itself.

    In three passes: the mean of all that :meth:`see` gives, then the mean of all that :meth:`place` makes of it, then
    :func:`rank_words` of the placed minus their mean, block by block
    (:class:`seqmm.features.extractors.image_keywords.ClassesToWords`).

    Args:
        backbone: an ImageNet-1k classifier.
        encoder: for class names and words.

    Raises:
        ValueError: the backbone has other classes.
    """

    def __init__(self, backbone: ImageBackbone, encoder: Encoder):
        if backbone.num_classes != 1000:
            raise ValueError(
                f"{backbone.provenance['encoder']} has {backbone.num_classes} classes, not ImageNet's 1,000: "
                "use another backbone, or CLIP for the keywords"
            )
        self.backbone, self.encoder, self.dim = backbone, encoder, backbone.num_classes
        self.provenance = {
            "tagger": f"ImageNet classes of {backbone.provenance['encoder']} (not CLIP)",
            "tagger_weights": backbone.provenance["weights"],
        }

    def see(self, images: Sequence[Image.Image]) -> np.ndarray:
        """``[b, 1000]`` class probabilities."""
        return self.backbone.classify(images)[1]

    def words(self, vocabulary: Sequence[str]) -> np.ndarray:
        """``[V, d]`` of the words."""
        return self.encoder.encode(vocabulary, label="vocabulary")

    def place(self, seen: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """Images in the text encoder's space, not centred.

        Args:
            seen: ``[b, 1000]`` class probabilities.
            mean: ``[1000]`` of all images'.

        Returns:
            ``[b, d]``.
        """
        share = seen / (mean + 1 / len(self._names))
        share /= share.sum(1, keepdims=True)  # [b, 1000]
        return share @ self._name_vectors

    @cached_property
    def _names(self) -> list[str]:
        return [name.split(",")[0] for name in self.backbone.class_names()]

    @cached_property
    def _name_vectors(self) -> np.ndarray:
        return self.encoder.encode(self._names, label="ImageNet classes")  # [1000, d]


def rank_words(
    images: np.ndarray, words: np.ndarray, vocabulary: Sequence[str], top: int = TOP_WORDS
) -> list[list[str]]:
    """The ``top`` words of each image by dot product, best first, ties in the vocabulary's order.

    Works in blocks of 1,024 images: ``[n, V]`` is never whole.

    Args:
        images: ``[n, d]``; their length does not matter.
        words: ``[V, d]`` of unit norm.
        vocabulary: the V words.
        top: words an image gets.
    """
    if len(vocabulary) < top:
        raise ValueError(f"{len(vocabulary)} words cannot give {top} keywords an image; use a larger vocabulary")
    chosen = []
    for start in range(0, len(images), 1024):
        scores = images[start : start + 1024] @ words.T  # [b, V]
        least = np.partition(scores, len(vocabulary) - top, axis=1)[:, len(vocabulary) - top]  # the top-th best
        for row, threshold in zip(scores, least, strict=True):
            best = np.flatnonzero(row >= threshold)  # a few more than top where words tie
            best = best[np.argsort(-row[best], kind="stable")][:top]
            chosen.append([vocabulary[int(index)] for index in best])
    return chosen
