"""Images to keywords (MSM4SR): every word of a vocabulary is ranked for an image, the best ones become one string.

Two taggers, one use: ``seen = tagger.see(images)`` batch by batch, then ``tagger.keywords(seen, vocabulary)``.

- :class:`ClipTagger` is the paper's: CLIP's image and text towers.
- :class:`ImageNetTagger` is a stand-in where no CLIP weights can be had: a classifier's ImageNet classes, placed by
  their names in a text encoder's space. It knows 1,000 things, most of them animals and household goods; no style, no
  mood, no person.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from seqmm.features.text import weights_digest

if TYPE_CHECKING:
    from PIL import Image

    from seqmm.features.images import ImageBackbone
    from seqmm.features.text import TextEncoder

TOP_WORDS = 15
"""Words of an image (the paper's N)."""

_WORD = re.compile(r"(?<![\w'’-])[^\W\d_]{3,}(?![\w'’-])")
_MID_SENTENCE = re.compile(r"[\w,;:|'’)]\s*$")
_STOP_WORDS = """
about above after again against all also although always among and another any anyone anything are around
because become becomes becoming been before begin begins behind being best better between both bring brings but
call called calls can cannot come comes coming could day days did discover discovers does doing done down during
each eight either else end ends enough even ever every everyone everything face few find finds finding first
five follow following follows for force forced forces form found four from full gets get getting give given
gives goes going gone good got great had has have having help helps her here herself him himself his how however
into its itself just keep keeps kind know known knows last later lead leads learn learning learns least leave
leaves leaving let like little live lives living long look looking looks lot made make makes making many may
meanwhile meet meets might mind more most much must named near need needs never new next nine none not nothing
now off often old once one only onto other others our out over own part people place plan plans put quickly
rather really right run runs same second see seem seems seen send sent set sets seven several shall she should
since six some someone something soon start started starting starts still story such take taken takes taking
tell tells ten than that the their them themselves then there these they thing things this those though three
through time times together too took try trying tries turn turned turning turns two under unless until upon use
used using very want wanted wants was way ways well went were what when where whether which while who whom whose
why will with within without work working works would year years yet you young your film movie based real true
"""
_STOP = frozenset(_STOP_WORDS.split())


def build_vocabulary(texts: Iterable[str], *, min_count: int = 5, max_words: int = 20_000) -> list[str]:
    """Words of a corpus by how many texts they occur in, most frequent first (ties by alphabet).

    Kept are words of three letters or more, in lower case, without function words and common verbs, and without names:
    a word that is written with a capital inside a sentence more often than not is one.

    Args:
        texts: overviews, tag lines, lists of keywords.
        min_count: texts a word must occur in.
        max_words: upper bound.
    """
    count: Counter[str] = Counter()
    inside: Counter[tuple[str, bool]] = Counter()  # (word, capital first letter), sentence starts left out
    for text in texts:
        found = set()
        for match in _WORD.finditer(text):
            word = match[0].lower()
            found.add(word)
            if _MID_SENTENCE.search(text[max(0, match.start() - 3) : match.start()]):
                inside[word, match[0][0].isupper()] += 1
        count.update(found)
    words = [w for w, n in count.items() if n >= min_count and w not in _STOP and inside[w, True] <= inside[w, False]]
    return sorted(words, key=lambda word: (-count[word], word))[:max_words]


class Tagger(Protocol):
    """What turns images into keywords."""

    provenance: dict[str, str]

    def see(self, images: Sequence[Image.Image]) -> np.ndarray:
        """``[b, k]`` what the tagger keeps of an image."""
        ...

    def keywords(self, seen: np.ndarray, vocabulary: Sequence[str], top: int = TOP_WORDS) -> list[list[str]]:
        """The best words of every image, best first.

        Args:
            seen: ``[n, k]`` of all images.
            vocabulary: the words to choose from.
            top: how many an image gets.

        Raises:
            ValueError: a vocabulary smaller than ``top``.
        """
        ...


class ClipTagger:
    """CLIP by open_clip: words by the cosine of their text vector to the image vector.

    Args:
        name: open_clip model, ``hf-hub:org/name`` or ``local-dir:folder``.
        pretrained: which weights of a named model; None for the other two, which bring theirs.
        template: prompt around a word; the paper's is the bare word.
        device: torch device; None = a GPU if there is one.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: a named model without ``pretrained``.
    """

    def __init__(self, name: str, pretrained: str | None = None, *, template: str = "{}", device: str | None = None):
        import open_clip
        import torch

        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.template = template
        if pretrained is None and not name.startswith(("hf-hub:", "local-dir:")):
            known = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none: no such model"
            raise ValueError(f"which weights of the CLIP model {name!r}? Known: {known}")
        try:
            self.model, self.transform = open_clip.create_model_from_pretrained(name, pretrained, device=self.device)
            self.tokenizer = open_clip.get_tokenizer(name)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"cannot load the CLIP model {name!r}: {error}. Offline, give local-dir:<folder> with "
                "open_clip_config.json and open_clip_model.safetensors, or use the ImageNet classes"
            ) from error
        self.model.eval()
        label = name.rstrip("/").rsplit("/", 1)[-1] if name.startswith("local-dir:") else name
        self.provenance = {"tagger": f"CLIP {label}", "tagger_weights": weights_digest(self.model), "prompt": template}

    def see(self, images: Sequence[Image.Image]) -> np.ndarray:
        """``[b, d]`` image vectors of norm 1."""
        import torch

        with torch.inference_mode():
            pixels = torch.stack([self.transform(image) for image in images]).to(self.device)  # [b, 3, H, W]
            return self.model.encode_image(pixels, normalize=True).float().cpu().numpy()

    def keywords(self, seen: np.ndarray, vocabulary: Sequence[str], top: int = TOP_WORDS) -> list[list[str]]:
        """See :class:`Tagger`."""
        import torch
        from tqdm import tqdm

        vectors = []
        with torch.inference_mode():
            for start in tqdm(range(0, len(vocabulary), 256), desc="words", unit="batch", leave=False, disable=None):
                prompts = [self.template.format(word) for word in vocabulary[start : start + 256]]
                tokens = self.tokenizer(prompts).to(self.device)
                vectors.append(self.model.encode_text(tokens, normalize=True).float().cpu().numpy())
        return rank_words(seen, np.concatenate(vectors), vocabulary, top)


class ImageNetTagger:
    """ImageNet classes: an image is the mean vector of its classes' names, words are ranked by cosine to it.

    Class probabilities are divided by their mean over the images (plus 1/1000): most posters are a "book jacket" or a
    "comic book" to the classifier, which says that they are posters, not what they show. The resulting vectors are
    centred. On 4,419 posters, ten nearest neighbours by the encoded keywords then share .203 of their genres (Jaccard),
    against .192 without the two, .175 at random, and .250 by the classifier's pooled vector itself.

    Args:
        backbone: an ImageNet-1k classifier.
        encoder: for class names and words.

    Raises:
        ValueError: the backbone has other classes.
    """

    def __init__(self, backbone: ImageBackbone, encoder: TextEncoder):
        if backbone.num_classes != 1000:
            raise ValueError(
                f"{backbone.provenance['encoder']} has {backbone.num_classes} classes, not ImageNet's 1,000: "
                "use another backbone, or CLIP for the keywords"
            )
        self.backbone, self.encoder = backbone, encoder
        self.provenance = {
            "tagger": f"ImageNet classes of {backbone.provenance['encoder']} (not CLIP)",
            "tagger_weights": backbone.provenance["weights"],
        }

    def see(self, images: Sequence[Image.Image]) -> np.ndarray:
        """``[b, 1000]`` class probabilities."""
        return self.backbone(images)[1]

    def keywords(self, seen: np.ndarray, vocabulary: Sequence[str], top: int = TOP_WORDS) -> list[list[str]]:
        """See :class:`Tagger`. Depends on all images together, by the division and the centring."""
        names = [name.split(",")[0] for name in self.backbone.class_names()]
        share = seen / (seen.mean(0) + 1 / len(names))
        share /= share.sum(1, keepdims=True)  # [n, 1000]
        vectors = share @ self.encoder.encode(names, label="ImageNet classes")  # [n, d]
        vectors -= vectors.mean(0)
        return rank_words(vectors, self.encoder.encode(vocabulary, label="vocabulary"), vocabulary, top)


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
        order = np.argsort(-(images[start : start + 1024] @ words.T), axis=1, kind="stable")[:, :top]  # [b, top]
        chosen += [[vocabulary[index] for index in row] for row in order]
    return chosen
