"""Vocabularies of the words that describe images."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from seqmm.features.readers.sentences import split_sentences
from seqmm.files import read_text

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
    words = list(dict.fromkeys(line.strip() for line in read_text(file).splitlines() if line.strip()))
    if not words:
        raise ValueError(f"{file} holds no word; expected one a line")
    return words
