"""Text out of web pages: entities, HTML, and the scripts and styles that scrapers took for text."""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"<(?:(/?[a-zA-Z][\w:.-]*)[^<>]*|[!?][^<>]*)>")
_HIDDEN = re.compile(r"<(?:(script|style)\b[^<>]*>|!--)", re.IGNORECASE)
_BREAKS = """
address article blockquote br caption center dd div dl dt figure footer form h1 h2 h3 h4 h5 h6 header hr li main ol p
pre section table tbody td tfoot th thead title tr ul
"""
_INLINE = """
a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd mark nobr q s samp small span strike strong sub sup tt
u var wbr
"""
_OTHER = """
area aside audio base body button canvas col colgroup data details dialog embed fieldset figcaption frame head html
iframe img input label legend link map meta meter nav noscript object optgroup option output param path picture progress
script select source style summary svg template textarea time track video
"""
_INSTEAD = dict.fromkeys(_BREAKS.split(), "\n") | dict.fromkeys(_INLINE.split(), "")
"""Of a tag: "H<sub>2</sub>O" is one word. Any other tag is a space."""

_NAMES = "|".join([*_BREAKS.split(), *_INLINE.split(), *_OTHER.split()])
_ELEMENT = re.compile(rf"<(/?(?:{_NAMES}))(?:[\s/][^<>]*)?>|<!--|<!doctype[^<>]*>", re.IGNORECASE)
_UNCLOSED = re.compile(r"<(?:script|style)(?:[\s>].*)?$", re.IGNORECASE | re.DOTALL)
_CUT_OFF = re.compile(rf"</(?:{_NAMES})?\s*$|<(?:{_NAMES})\s+[\w-]+\s*=[^<>]*$", re.IGNORECASE)
"""A tag that a length limit cut in two."""
_SCRIPT = re.compile(
    r"\bvar\s+[\w$]+\s*=(?!=)|\bP\.when\(|\(function\s*\(|^\s*function\b[\s\w$]*\([^()]*\)\s*\{"
    r"|^\s*if\s*\([^{}\n]{0,300}\)\s*\{|^\s*(?:window|document|ue_csm)\.[\w$.]+\s*[=(]",
    re.MULTILINE,
)
_STYLE = re.compile(
    r"(?:(?<!\w)[.#@][A-Za-z_]|(?<![\w.#])(?:body|html|div|span|table|td|ul|li|img|h[1-6])(?=[\s.#:,>{]))"
    r"[^{};\n]{0,200}\{\s*(?:[\w-]+\s*:|[.#\w][^{}:;]{0,200}\{)",
    re.IGNORECASE,
)
_BY = re.compile(r"\s*by\s*\n\s*")
_LEVELS = 3
"""Times that entities are unescaped: pages hold &amp;amp;quot;, too."""


def strip_html(text: str) -> str:
    """Unescapes entities and removes tags, comments, scripts and styles; what stands on lines of its own stays so.

    Linear in the text's length, whatever it is. ``<`` before anything but a name stays ("3 < 5"). An unclosed script
    or comment loses its opening only: half of a description is not thrown away for a missing bracket.
    """
    if "<" not in text and "&" not in text:
        return text
    return _TAG.sub(_tag_to_space, _without_hidden(html.unescape(text)))


def clean(text: str) -> str:
    """A title, brand or tag as one line: entities unescaped, markup and page code removed, white space collapsed.

    Of markup only what HTML knows goes: "<3" and "<Untitled>" are titles. A script or style sheet goes to its end, and
    what stood before it stays. A text of neither stays as it is.

    >>> clean("AT&amp;T  <b>phone</b>"), clean("var aPageStart = (new Date()).getTime();"), clean("I <3 you")
    ('AT&T phone', '', 'I <3 you')
    """
    text = unescape(text)
    if "<" in text:
        text = _ELEMENT.sub(_tag_to_space, _UNCLOSED.sub("", _without_hidden(text)))
        if _CUT_OFF.match(text, cut := text.rfind("<")):
            text = text[:cut]
    if any(mark in text for mark in "{(="):
        text = _without_code(text)
    return " ".join(text.split())


def unescape(text: str) -> str:
    """Without HTML's entities, escaped twice or thrice as they may be."""
    for _ in range(_LEVELS):
        if "&" not in text:
            break
        text = html.unescape(text)
    return text


def one_line(text: str) -> str:
    """Entities unescaped and white space collapsed; what :func:`clean` removes is still there, to be counted."""
    return " ".join(html.unescape(text).split())


def has_markup(text: str) -> bool:
    """Whether a short text holds HTML: a piece of a page, not a word of somebody's."""
    text = unescape(text)
    return "<" in text and (_ELEMENT.search(text) or _CUT_OFF.match(text, text.rfind("<"))) is not None


def without_by(brand: str) -> str:
    """A brand without the line "by" that shops' pages set above it."""
    return _BY.sub("", brand, count=1) if _BY.match(brand) else brand


def _without_code(text: str) -> str:
    """Up to where a script or style sheet begins."""
    found = [match.start() for pattern in (_SCRIPT, _STYLE) if (match := pattern.search(text))]
    return text[: min(found)] if found else text


def _tag_to_space(match: re.Match[str]) -> str:
    return _INSTEAD.get((match[1] or "").removeprefix("/").lower(), " ")


def _without_hidden(text: str) -> str:
    parts, start = [], 0
    while opening := _HIDDEN.search(text, start):
        close = re.compile(rf"</{opening[1]}[^<>]*>" if opening[1] else "-->", re.IGNORECASE)
        closing = close.search(text, opening.end())
        if closing is None:  # and none for those that follow, which would be searched for again and again
            break
        parts += [text[start : opening.start()], "\n"]
        start = closing.end()
    return "".join([*parts, text[start:]])
