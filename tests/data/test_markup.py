"""Short texts of web pages: what is text stays, what is page goes, and it is counted."""

import gzip
import json

import pytest

from seqmm.data.preparation import Preparation
from seqmm.data.prepare import prepare, statistics
from seqmm.data.readers.amazon import read_metadata, read_reviews
from seqmm.data.readers.markup import clean, has_markup, without_by
from tests.growth import growth

SCRIPT = "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();"
STYLE = ".a-box-inner{background-color:#fff}#alohaBuyBoxWidget .selected{color:#000}"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Shoe 0", "Shoe 0"),
        ('<span id="productTitle">Shoe 4 &amp; co</span>', "Shoe 4 & co"),
        ("Tom &amp;amp; Jerry &amp;quot;live&amp;quot;", 'Tom & Jerry "live"'),
        ("&lt;b&gt;Bold&lt;/b&gt; move", "Bold move"),
        ("H<sub>2</sub>O<br/>bottle", "H2O bottle"),
        ('Mug <img src="x.jpg" alt="a > b"> blue', 'Mug b"> blue'),  # an unescaped bracket ends a tag
        ("Mug <!-- price --> blue", "Mug blue"),
        ("Mug <script>if (a < b) { x() }</script> blue", "Mug blue"),
        ("Mug <script>never closed", "Mug"),
        ('Mug <span class="a', "Mug"),
        ("Mug</span", "Mug"),
        ("</span></span></span>", ""),
        (SCRIPT, ""),
        (" ".join(SCRIPT.split()), ""),
        ("Mug\n" + SCRIPT, "Mug"),
        ("(function(f){f()})(window);", ""),
        ('P.when("A").execute(function(A){A.on()});', ""),
        ("if(typeof uet == 'function'){uet('be')}", ""),
        (STYLE, ""),
        ("$12.99 " + STYLE, "$12.99"),
        ("body{margin:0}", ""),
        ("@media only screen { .x { color: red } }", ""),
        # names of things that look a little like it
        ("I <3 you", "I <3 you"),
        ("<Untitled> (live)", "<Untitled> (live)"),
        ("a < b and c > d", "a < b and c > d"),
        ("Various Artists: var. 3 (Op. 5) = the best", "Various Artists: var. 3 (Op. 5) = the best"),
        ("Set {red: 3, blue: 4}", "Set {red: 3, blue: 4}"),
        ("No. #1 body lotion {new}", "No. #1 body lotion {new}"),
        ("If (you) {can}", "If (you) {can}"),
        ("AT&T; R&D", "AT&T; R&D"),
        ("by the sea", "by the sea"),
        ("function and form (2nd ed.)", "function and form (2nd ed.)"),
    ],
)
def test_short_texts(text, right):
    assert clean(text) == right
    assert clean(right) == right


@pytest.mark.parametrize("piece", ["<", "<a ", "<script>", "<!--", "&amp;", ".a", ".a{", "var ", "body ", "if (", "{:"])
def test_cleaning_is_linear(piece):
    assert growth(lambda size: clean(piece * (size // len(piece))), 20_000) < 24, "of 8 times the text; 64 is quadratic"


def test_words_that_are_pieces_of_a_page():
    assert [word for word in ("Men", "a<b", "<b>x</b>", "&lt;i&gt;", "</span>", '<a href="') if has_markup(word)] == [
        "<b>x</b>", "&lt;i&gt;", "</span>", '<a href="',
    ]  # fmt: skip


def test_the_line_above_a_brand():
    pairs = {"\n\n    by\n    \n    Acme": "Acme", "by\nby\nTerry": "by\nTerry"}
    pairs |= dict.fromkeys(["by Terry", "Goodby\nx", "By\nx"])
    for brand, right in pairs.items():
        assert without_by(brand) == (brand if right is None else right)


def corpus(tmp_path, year, metadata):
    """Five users with all the items of some metadata."""
    user, item, moment = ("user_id", "parent_asin", "timestamp") if year == 2023 else (
        "reviewerID", "asin", "unixReviewTime")  # fmt: skip
    ids = [row[item] for row in metadata]
    rows = [
        {user: f"u{u}", item: name, moment: (1_500_000_000 + n) * (1000 if year == 2023 else 1)}
        for u in range(5)
        for n, name in enumerate(ids)
    ]
    reviews, meta = tmp_path / "reviews.json", tmp_path / "meta.json"
    reviews.write_text("".join(json.dumps(row) + "\n" for row in rows))
    meta.write_text("".join(json.dumps(row) + "\n" for row in metadata))
    log = read_reviews(reviews, year)
    how = Preparation(k_core=0, index_order="source")
    tags = ("brand", "categories")
    return prepare(log, how, name="a", items=read_metadata(meta, year, log.item_ids), tags=tags)


def test_metadata_of_2018_is_cleaned_and_counted(tmp_path):
    text = {
        "brand": "Acme",
        "category": ["Clothing", "Men"],
        "price": "$5",
        "title": "Shoe",
        "description": ["<b>x</b>"],
    }
    rows = [
        text,
        text
        | {"brand": "\n\n    by\n    \n    Acme", "category": ["Clothing", "</span></span>", "Sport &amp; Outdoor"]},
        text | {"brand": "by Bolt", "category": ["Clothing", '<span class="a-x">Import</span>', "100% Cotton"]},
        text | {"title": SCRIPT, "price": STYLE},
        text | {"title": "<span>Boot &amp; co</span>", "brand": "  Acme \n"},
    ]
    made = corpus(tmp_path, 2018, [row | {"asin": f"B00000000{n}"} for n, row in enumerate(rows)])
    assert made.corpus.titles == ("Shoe", "Shoe", "Shoe", "", "Boot & co")
    assert made.item_columns["brand"] == ["Acme", "Acme", "Bolt", "Acme", "Acme"]
    usual = ["Clothing", "Men"]
    assert made.item_columns["categories"] == [
        usual, ["Clothing", "Sport & Outdoor"], ["Clothing", "100% Cotton"], usual, usual
    ]  # fmt: skip
    assert made.item_columns["price"] == ["$5", "$5", "$5", "", "$5"]
    assert made.item_columns["description"] == ["<b>x</b>"] * 5  # sentences are cut by its markup
    assert made.corpus.features["brand"].vocabulary == ("Acme", "Bolt")
    assert set(made.corpus.features["categories"].vocabulary) == {"Clothing", "Men", "Sport & Outdoor", "100% Cotton"}
    said = "cells with markup, entities or page code: title 2, brand 2, categories 2, price 1"
    assert any(said in line for line in statistics(made))


def test_nothing_is_counted_where_nothing_is_cleaned(tmp_path):
    rows = [
        {"parent_asin": f"P{n}", "title": " Item  1", "price": price, "details": {"Brand": brand}, "categories": []}
        for n, (price, brand) in enumerate([(None, None), ("None", "by Terry"), (float("nan"), float("nan"))])
    ]
    made = corpus(tmp_path, 2023, rows)
    assert made.item_columns["price"] == ["", "", ""] and made.item_columns["brand"] == ["", "by Terry", ""]
    assert made.corpus.titles == ("Item 1",) * 3
    assert "cells_cleaned" not in made.corpus.info and not any("cleaned" in line for line in statistics(made))


def test_swapped_columns_are_recognised(tmp_path):
    items, users = [f"B00000000{n}" for n in range(5)], [f"A00{n:02}XYZ" for n in range(9)]
    books = ["000171287X", "0439893577", "B00006AAAA"]
    for first, second, right in ((items, users, 2018), (users, items, 2014), (books, users, 2018)):
        file = tmp_path / "ratings.csv.gz"
        rows = [f"{a},{b},5.0,1600000000\n" for a in first for b in second]
        file.write_bytes(gzip.compress("".join(rows).encode()))
        log = read_reviews(file, right)
        assert (len(log.user_ids), log.user_ids[0]) == (9, "A0000XYZ")
        with pytest.raises(ValueError, match=rf"ratings\.csv\.gz: users and items are swapped.*--year {right}\)$"):
            read_reviews(file, 2014 if right == 2018 else 2018)
        with pytest.raises(ValueError, match=rf"without a header: ratings of 2014 or 2018.*--year {right}\)$"):
            read_reviews(file, 2023)
    headed = tmp_path / "headed.csv"
    headed.write_text("user_id,parent_asin,rating,timestamp\nA,B,5,1600000000000\n")
    for year in (2014, 2018):
        with pytest.raises(ValueError, match=rf"header .* of 2023, not of {year}; give its year \(--year 2023\)"):
            read_reviews(headed, year)


@pytest.mark.parametrize("line", ["[" * 100_000, "{'a': " + "[" * 100_000, '{"a": ' * 100_000])
def test_nested_metadata(tmp_path, line):
    file = tmp_path / "meta.json"
    file.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"meta\.json, row 1: not a JSON object"):
        read_metadata(file, 2014, ["a"])
