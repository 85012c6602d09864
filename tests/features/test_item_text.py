"""Recipes of item text against naive restatements, with what real catalogues hold."""

import html
import re

import pytest

from seqmm.features.readers.item_text import (
    item_sentences,
    item_text,
    sentence_columns,
    strip_html,
    text_columns,
    word_drop,
)
from tests.growth import growth

LONG = "A sentence of the description, number one. " * 2400  # 100 kB
NASTY = [
    None,
    "",
    " ",
    ".",
    "...",
    "Ends in dots...",
    "One & two &amp; three &lt;b&gt;bold&lt;/b&gt;",
    'Quotes "inside" and\r\nlines\nof text',
    "<p>Para one.</p><p>Para <b>two</b></p><script>var x = 1 < 2;</script><!-- no --> 3 < 5 > 4",
    "emoji 🎧🪕 café 猫のおもちゃ игрушка ألعاب e\u0301 \u200b\ufeff",
    "x" * 1998,
    "x" * 1999,
    "x" * 2000,
    LONG,
    ["Toys", "Cats & dogs", ""],
    [],
    [["Toys", "Puzzles"], ["Games"]],
    {"Brand": "ACME", "Size": None},
    7,
    float("nan"),
]


# -- strip_html -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("AT&amp;T &#39;s &eacute;", "AT&T 's é"),
        ("H<sub>2</sub>O is <b>wet</b>", "H2O is wet"),
        ("one<br>two<BR/>three<p class='x'>four</p>", "one two three four"),
        ("<ul><li>red</li><li>blue</li></ul>", "red blue"),
        ("3 < 5, 7 > 6, a <3 you, x<y", "3 < 5, 7 > 6, a <3 you, x<y"),
        ("<w:View>Normal</w:View><w:Zoom>0</w:Zoom>", "Normal 0"),
        ("before<script type='a'>if (a < b) { x = '</b>'; }</SCRIPT >after", "before after"),
        ("a<style>p { x }</style>b<!-- <b>hidden</b> -->c", "a b c"),
        ("kept <script>to the end", "kept to the end"),
        ("kept <!-- to the end", "kept <!-- to the end"),
        ("&lt;b&gt;escaped&lt;/b&gt; tags", "escaped tags"),
        ("<!DOCTYPE html><?xml version='1.0'?>x", "x"),
    ],
)
def test_strip_html(text: str, clean: str) -> None:
    assert " ".join(strip_html(text).split()) == clean


@pytest.mark.parametrize(
    "piece", ["<", "<a", "<script>", "<!--", "</script ", "&", "&lt;", '<a "', "<style><b>", "&#60;!--"]
)
def test_strip_html_is_linear(piece: str) -> None:
    assert growth(lambda size: strip_html(piece * (size // len(piece))), 50_000) < 24, "of 8 times the text"


# -- recipes ----------------------------------------------------------------------------------------------------------


def naive_strings(value) -> list[str]:
    if value is None or value != value:
        return []
    if isinstance(value, dict):
        return [f"{key}: {', '.join(naive_strings(inner))}" for key, inner in value.items() if naive_strings(inner)]
    if isinstance(value, list):
        return sum((naive_strings(inner) for inner in value), [])
    return [str(value)]


def naive_plain(row: dict, fields: tuple[str, ...]) -> str:
    def glue(parts: list[str], mark: str) -> str:
        out = ""
        for part in parts:
            if part and out:
                out += " " if out[-1] in ".!?" else mark + " "
            out += part
        return out

    texts = []
    for name in fields:
        texts.append(glue([" ".join(strip_html(part).split()) for part in naive_strings(row[name])], ","))
    return glue(texts, ".")


def naive_mmrec(row: dict) -> str:
    title, brand, description = (
        " " if not naive_strings(row[name]) or naive_strings(row[name]) == [""] else " ".join(naive_strings(row[name]))
        for name in ("title", "brand", "description")
    )
    text = title + " " + brand + " "
    path = row["categories"]
    if isinstance(path, list) and path and isinstance(path[0], list):
        path = path[0]
    for category in naive_strings(path):
        if category:
            text = text + category + " "
    return (text + description).replace("\n", " ")


def naive_unisrec(row: dict) -> str:
    text = ""
    for name in ("title", "categories", "brand"):
        value = row[name]
        if value is None or value != value:
            continue
        raw = " ".join(str(part) for part in value) if isinstance(value, list) else str(value)
        raw = re.sub('["\n\r]*', "", html.unescape(raw))
        end = len(raw)
        while end > 1 and raw[end - 1] == ".":
            end -= 1
        raw = raw[:end] + "."
        text += ("" if len(raw) >= 2000 else raw) + " "
    text = text[:-1]
    return text if text.strip() else "."


def test_recipes_on_nasty_values() -> None:
    """Every value in every place, against restatements that know nothing of one another."""
    for place in ("title", "brand", "categories", "description"):
        for value in NASTY:
            row = {"title": "T & co.", "brand": "B", "categories": ["C", "D"], "description": "Some\ntext"}
            row[place] = value
            assert item_text(row) == naive_plain(row, ("title", "brand", "categories", "description")), (
                place,
                str(value)[:40],
            )
            assert item_text(row, "mmrec") == naive_mmrec(row), (place, str(value)[:40])
            assert item_text(row, "unisrec") == naive_unisrec(row), (place, str(value)[:40])


def test_known_texts() -> None:
    row = {
        "id": "B0",
        "title": "Super &amp; Ball...",
        "brand": None,
        "categories": [["Toys & Games", "Balls"], ["Sport"]],
        "description": "<p>It bounces.</p><p>A lot!</p>",
        "price": "9.99",
    }
    assert item_text(row) == "Super & Ball... Toys & Games, Balls, Sport. It bounces. A lot!"
    assert item_text(row, fields=("brand", "price")) == "9.99"
    # three spaces: after the title, the missing brand (" "), and after that
    assert item_text(row, "mmrec") == "Super &amp; Ball...   Toys & Games Balls <p>It bounces.</p><p>A lot!</p>"
    row |= {"categories": ["Toys & Games", "Balls"], "brand": ""}
    assert item_text(row, "unisrec") == "Super & Ball. Toys & Games Balls. ."  # an empty brand is a dot, as published
    assert item_text(dict.fromkeys(row), "unisrec") == "."
    assert item_text(dict.fromkeys(row)) == ""
    assert item_text({"text": "only this"}) == "only this"
    assert item_text({"title": "x" * 1998}, "unisrec") == "x" * 1998 + "."
    assert item_text({"title": "x" * 1999, "brand": "B"}, "unisrec") == " B."


def test_fields_that_are_not_there() -> None:
    have = ("item", "id", "name", "about")
    with pytest.raises(ValueError, match="no column of title, brand.*it has: item, id, name, about"):
        text_columns(have)
    with pytest.raises(ValueError, match="no column 'nmae'; it has: item, id, name, about"):
        text_columns(have, fields=("name", "nmae"))
    with pytest.raises(ValueError, match="no column of title, categories, brand"):
        item_text({"id": "1", "description": "d"}, "unisrec")
    with pytest.raises(ValueError, match="'mmrec' has fields of its own"):
        text_columns(have, "mmrec", ("name",))
    with pytest.raises(ValueError, match="unknown text recipe 'bert'"):
        item_text({"title": "x"}, "bert")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no column 'titel'"):
        sentence_columns(("title", "description"), ("titel", "description"))
    assert text_columns(("item", "title", "price", "brand")) == ("title", "brand")
    assert sentence_columns(("id", "title")) == ("title",)


# -- sentences --------------------------------------------------------------------------------------------------------


def test_sentences() -> None:
    row = {
        "title": "Dr. Ball No. 5. The best",
        "description": "<p>It bounces. Really &amp; truly!</p><ul><li>red</li><li>blue &nbsp;</li></ul>Made in Ulm",
    }
    whole = ["Dr. Ball No. 5. The best", "It bounces.", "Really & truly!", "red", "blue", "Made in Ulm"]
    assert item_sentences(row) == whole
    assert item_sentences(row, limit=3) == whole[:3]
    assert item_sentences(row, limit=0) == []
    assert item_sentences(row, ("description",)) == whole[1:]
    assert item_sentences({"title": "--", "description": None}) == []
    assert item_sentences({"title": "", "description": ["Part one. And two.", "", "Part three"]}) == [
        "Part one.",
        "And two.",
        "Part three",
    ]
    assert item_sentences({"title": "猫", "description": "猫です。犬です。 🎧 Ok."}) == [
        "猫",
        "猫です。",
        "犬です。",
        "🎧 Ok.",
    ]
    assert len(item_sentences({"title": "T", "description": LONG}, limit=None)) == 2401
    for value in NASTY:
        sentences = item_sentences({"title": value, "description": value})
        assert len(sentences) <= 10 and all(re.search(r"\w", sentence) for sentence in sentences)


# -- word drop --------------------------------------------------------------------------------------------------------


def test_word_drop() -> None:
    texts = [f"w{n} " + " ".join(f"word{n}{k}" for k in range(40)) for n in range(200)]
    dropped = [word_drop(text, 0.15, 0) for text in texts]
    assert dropped == [word_drop(text, 0.15, 0) for text in reversed(texts)][::-1]  # no state
    kept = [[word in set(copy.split()) for word in text.split()] for text, copy in zip(texts, dropped, strict=True)]
    share = sum(map(sum, kept)) / (200 * 41)
    assert abs(share - 0.85) < 0.015  # 4 standard deviations
    columns = [sum(row[place] for row in kept) / 200 for place in range(41)]
    assert max(columns) < 0.98 and min(columns) > 0.7  # items do not share a mask
    for text, copy in zip(texts, dropped, strict=True):
        assert [word for word in text.split() if word in set(copy.split())] == copy.split()  # the order stays
    assert word_drop(texts[0], 0.15, 1) != dropped[0]
    assert word_drop("a  b\nc", 0, 0) == "a b c"
    assert all(word_drop("lonely", 0.9, seed) == "lonely" for seed in range(50))  # never to nothing
    assert word_drop("", 0.5, 0) == "" and len(word_drop("🎧 猫 \ud800", 0.5, 3)) > 0
    for p in (-0.1, 1.0):
        with pytest.raises(ValueError, match="at least 0 and below 1"):
            word_drop("a", p, 0)
