"""Images to keywords (MSM4SR): every word of a vocabulary is ranked for an image, the best ones become one string.

- :class:`ClipTagger` is the paper's: CLIP's image and text towers.
- :class:`ImageNetTagger` is a stand-in where no CLIP weights can be had: a classifier's ImageNet classes, placed by
  their names in a text encoder's space. It knows 1,000 things, most of them animals and household goods; no style, no
  mood, no person.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from seqmm.features.text import Encoder, split_sentences

if TYPE_CHECKING:
    from PIL import Image

    from seqmm.features.clip import Clip
    from seqmm.features.images import ImageBackbone

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


PartOfSpeech = Callable[[str], Iterable[tuple[str, str]]]
"""A text's words in order, each with its tag of the Penn Treebank (NN, NNS, JJ, NNP, VBD …)."""


def build_vocabulary(
    texts: Iterable[str],
    *,
    min_count: int = 5,
    max_words: int = 20_000,
    part_of_speech: PartOfSpeech | None = None,
) -> list[str]:
    """Words of a corpus by how many texts they occur in, most frequent first (ties by alphabet).

    Kept are words of three letters or more, in lower case. With ``part_of_speech`` those which are a common noun or an
    adjective more often than not. Without, all but function words, common verbs (a short English list) and names: a
    word that is written with a capital inside a sentence more often than not is one.

    Args:
        texts: overviews, tag lines, lists of keywords.
        min_count: texts a word must occur in.
        max_words: upper bound.
        part_of_speech: a tagger (:func:`part_of_speech`).
    """
    count: Counter[str] = Counter()
    inside: Counter[tuple[str, bool]] = Counter()  # (word, capital first letter), sentence starts left out
    tagged: Counter[tuple[str, bool]] = Counter()  # (word, noun or adjective)
    for text in texts:
        found = set()
        for match in _WORD.finditer(text):
            word = match[0].lower()
            found.add(word)
            if _MID_SENTENCE.search(text[max(0, match.start() - 3) : match.start()]):
                inside[word, match[0][0].isupper()] += 1
        count.update(found)
        if part_of_speech is not None:
            tagged.update((word.lower(), tag in _DESCRIBING) for word, tag in part_of_speech(text))
    words = (word for word, number in count.items() if number >= min_count and word not in _STOP)
    if part_of_speech is None:
        kept = [word for word in words if inside[word, True] <= inside[word, False]]
    else:
        kept = [word for word in words if tagged[word, True] > tagged[word, False]]
    return sorted(kept, key=lambda word: (-count[word], word))[:max_words]


_DESCRIBING = frozenset({"NN", "NNS", "JJ", "JJR", "JJS"})


def part_of_speech(name: Literal["textblob", "nltk"]) -> PartOfSpeech:
    """A tagger of English words.

    Args:
        name: ``textblob``: its pattern tagger, a lexicon of 94,000 words and rules inside the package, nothing to
            download; ``nltk``: its averaged perceptron, whose data must be installed.

    Raises:
        ValueError: the package is missing.
        FileNotFoundError: NLTK's data is.
    """
    if name == "textblob":
        try:
            from textblob.en.taggers import PatternTagger
        except ModuleNotFoundError as error:
            raise ValueError(f'the tagger "textblob" needs textblob ({error}): pip install "seqmm[pos]"') from error
        tagger = PatternTagger()
        # a line at a time: it takes a line break for a space
        return lambda text: [pair for line in text.splitlines() if line.strip() for pair in tagger.tag(line)]
    if name != "nltk":
        raise ValueError(f"no tagger {name!r}; give textblob or nltk")
    try:
        import nltk
    except ModuleNotFoundError as error:
        raise ValueError(f'the tagger "nltk" needs nltk ({error}): pip install "seqmm[pos]"') from error

    def tag(text: str) -> list[tuple[str, str]]:
        sentences = [re.findall(r"[\w'’-]+|[^\w\s]", sentence) for sentence in split_sentences(text, limit=None)]
        return [pair for sentence in nltk.pos_tag_sents(sentences) for pair in sentence]

    try:
        tag("A word.")
    except LookupError as error:
        raise FileNotFoundError(
            'the tagger "nltk" needs NLTK\'s data averaged_perceptron_tagger_eng: '
            "python -m nltk.downloader averaged_perceptron_tagger_eng, or use textblob"
        ) from error
    return tag


def read_vocabulary(file: Path) -> list[str]:
    """Words of a file, one a line, each once.

    Raises:
        FileNotFoundError, ValueError: no such file, or an empty one.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no vocabulary file {file}; expected one word a line")
    words = list(dict.fromkeys(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()))
    if not words:
        raise ValueError(f"{file} holds no word; expected one a line")
    return words


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
        from seqmm.features.clip import check_template

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
    (:class:`seqmm.features.extractors.ClassesToWords`).

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
