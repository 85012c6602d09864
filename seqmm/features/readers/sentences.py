"""Texts cut into sentences."""

from __future__ import annotations

import re

MAX_SENTENCES = 10
"""Sentences kept of an item (MSM4SR's released code)."""

_ABBREVIATIONS = """
mr mrs ms dr prof rev hon st col gen capt sgt cpl maj gov sen rep pres vs no vol pt fig ed eds approx dept est
jan feb mar apr jun jul aug sep sept oct nov dec e.g i.e a.k.a
"""

_NEVER_END = frozenset(_ABBREVIATIONS.split())

_END = re.compile(r"""([.!?…]+["'”’»)\]]*)(\s+)(?=["'“‘«(\[]*[\w$€£#])|(?<=[。！？])""")

_LINE = re.compile(r"[\r\n]+|\s*[•●▪]\s*")

_LAST_WORD = re.compile(r"([\w.]+)\.[\"'”’»)\]]*$")


def split_sentences(text: str, limit: int | None = MAX_SENTENCES) -> list[str]:
    """Splits a text into sentences by punctuation, line breaks and bullets.

    A dot does not end a sentence after a title or unit ("Dr. Strangelove"), an initial ("J. R. R. Tolkien"), a dotted
    abbreviation ("the U.S. army"), or before a lower-case word. White space is collapsed; pieces without a letter or a
    digit are dropped.

    Args:
        text: any text; "" gives no sentence.
        limit: keep at most so many; None keeps all.
    """
    sentences = []
    for line in _LINE.split(text):
        start = 0
        for match in _END.finditer(line):
            head, rest = line[start : match.end(1) if match[1] else match.end()], line[match.end() :]
            if match[1] and not _ends(head, match[1], rest):
                continue
            sentences.append(head)
            start = match.end()
        sentences.append(line[start:])
    cleaned = (" ".join(sentence.split()) for sentence in sentences)
    kept = [sentence for sentence in cleaned if re.search(r"\w", sentence)]
    return kept if limit is None else kept[:limit]


def _ends(head: str, mark: str, rest: str) -> bool:
    """Whether the punctuation at the end of ``head`` ends a sentence, ``rest`` being what follows."""
    following = rest.lstrip("\"'“‘«([")
    if following[:1].islower():
        return False
    if not mark.startswith(".") or mark.startswith(".."):
        return True
    match = _LAST_WORD.search(head)
    word = match[1] if match else ""
    return not (word.lower() in _NEVER_END or (len(word) == 1 and word.isalpha()) or re.fullmatch(r"(\w\.)+\w", word))
