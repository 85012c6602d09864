"""Folders of other people: names that lead elsewhere, links, words that become headings; lists to score."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.doors.records import nothing
from tests.faults.doors.tables import EMPTY, WORDS
from tests.faults.hostile import EITHER, REFUSED, SOUND, Case, Door

# -- publishing --------------------------------------------------------------------------------------------------------


PUBLISH = Door(
    "publish corpus",
    ("corpus",),
    nothing,
    ("publish", "--corpus", "corpus", "--repo", "org/corpus", "--license", "mit", "--dry-run", "True"),
)
PUBLISH_MODEL = Door(
    "publish model",
    ("finished", "corpus"),
    nothing,
    ("publish", "--model", "finished", "--repo", "org/model", "--dry-run", "True"),
)


def _linked(place: str, aim: str = "../../secret.txt") -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        file = folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            file.unlink()
        file.symlink_to((folder / place).parent.resolve().joinpath(folder.parent / Path(aim).name))

    return spoil


def _stays(place: str) -> Callable[[str], str | None]:
    """Whether a link is not among what goes up."""

    def shown(out: str) -> str | None:
        rows = [line.split() for line in out.splitlines()]
        goes = any(len(row) == 2 and row[0].replace(",", "").isdigit() and row[1] == place for row in rows)
        return "what it leads to goes up" if goes else None

    return shown


def _uploads() -> Iterator[Case]:
    for place in ("corpus/LICENSE", "corpus/my_vocabulary.txt", "corpus/text/notes.txt", "corpus/items/items.parquet",
                  "corpus/text_vector/features.parquet", "corpus/corpus.json", "corpus/README.md"):  # fmt: skip
        shown = _stays(place.removeprefix("corpus/"))
        yield Case(PUBLISH, f"{place} is a link out", _linked(place), EITHER, shown=shown)
    for place in ("model.safetensors", "metrics.json", "config.json", "run.yaml"):
        yield Case(PUBLISH_MODEL, f"{place} is a link out", _linked(f"finished/{place}"), EITHER, shown=_stays(place))


# -- names of corpora --------------------------------------------------------------------------------------------------

NAMES = {
    "a path up": "../../../escape",
    "an absolute path": "@place@/escape",
    "a path down": "a/b",
    "a dot": ".",
    "two dots": "..",
    "nothing": "",
    "markup": "<script>alert(1)</script>",
    "a heading": "x\n# Heading\n",
    "front matter": "x\n---\nlicense: mit\n---\n",
    "an escape code": "\x1b]0;owned\x07\x1b[31m",
    "a command": "$(touch EXECUTED); touch ../EXECUTED",
    "NUL": "a\0b",
    "a long name": "x" * 400,
    "a list": ["a"],
    "a number": 3,
    "right to left": "\u202egnp",
    "a template": "{{ evil }} {0.__class__}",
}


def _named(name: Any) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        file = folder / "corpus" / "corpus.json"
        called = name.replace("@place@", os.environ["FAULTS_PLACE"]) if isinstance(name, str) else name
        file.write_text(json.dumps(json.loads(file.read_text()) | {"name": called}))

    return spoil


def _tidy(folder: Path) -> str | None:
    """Whether no run lies elsewhere, and a name is one word of the card: no heading, no front matter, no code."""
    import yaml

    runs = [file.parent for file in folder.rglob("run.yaml")]
    if len(runs) != 1 or runs[0].parent != folder / "runs":
        return f"the run lies in {[str(run.relative_to(folder)) for run in runs]}"
    card = (runs[0] / "README.md").read_text(encoding="utf-8")
    front, _, rest = card.removeprefix("---\n").partition("\n---\n")
    values = yaml.safe_load(front)
    if values.get("license") != "apache-2.0" or "\n# Heading" in rest or "<script>" in rest or "\x1b" in card:
        return "the name is more than a word in the card"
    return None


NAME = Door("name", ("corpus", "bpr.yaml"), nothing, ("train", "--config", "bpr.yaml", "--train.epochs", "1"), _tidy)


def _names() -> Iterator[Case]:
    for what, name in NAMES.items():
        yield Case(NAME, f"{what} is a corpus' name", _named(name), EITHER, "corpus")


# -- what is shown -----------------------------------------------------------------------------------------------------


def _titled(word: str) -> Callable[[Path], object]:
    """A corpus whose first title is a word."""

    def spoil(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = folder / "corpus" / "items" / "items.parquet"
        table = pq.ParquetFile(file).read()
        titles = [word] * len(table)
        pq.write_table(table.set_column(table.column_names.index("title"), "title", pa.array(titles)), file)

    return spoil


SHOWN = Door(
    "shown",
    ("content", "corpus"),
    nothing,
    ("recommend", "--checkpoint", "content", "--user", "user-3", "--k", "3"),
    lambda folder: None,
)
CONTROLS = {
    "an escape code": "\x1b[2Jcleared",
    "a bell": "\x07",
    "a line break": "one\ntwo",
    "a return": "one\rtwo",
    "a backspace": "a\bb",
    "another escape": "\x9b31m",
}


# -- lists to score ----------------------------------------------------------------------------------------------------

LISTS = [("u1", ["a", "b", "c", "d"]), ("u2", ["b", "a", "d", "c"]), ("u3", ["c", "d", "a", "b"])]
TRUTH = [("u1", "a"), ("u2", "d"), ("u3", "x")]


def _lists(ranks: bool = True, mark: str = ",") -> str:
    lines = [mark.join(("user_id", "item_id", "rank" if ranks else "score"))]
    for user, items in LISTS:
        for place, item in enumerate(items):
            lines.append(mark.join((user, item, str(place + 1 if ranks else 0.9 - place / 10))))
    return "\n".join(lines) + "\n"


def _truth(pairs: list[tuple[str, str]] = TRUTH) -> str:
    return "user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in pairs)


def _lay(folder: Path) -> None:
    (folder / "lists.csv").write_text(_lists())
    (folder / "truth.csv").write_text(_truth())


SCORE = Door("score", (), _lay, ("score", "lists.csv", "--truth", "truth.csv", "--ks", "1", "3", "--metrics", "recall"))


def _measured(out: str) -> str | None:
    """Whether recall at 1 and 3 is what it is: u1 finds at once, u2 third, u3 never (unless he is one of four)."""
    values = [line.split()[1:] for line in out.splitlines() if line.startswith("recall")]
    return None if values in ([["0.3333", "0.6667"]], [["0.2500", "0.5000"]]) else f"recall {values}"


def _score(name: str, file: str, content: str | bytes, right: str = REFUSED, names: str | None = None) -> Case:
    """Other lists, or another truth."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    called = file if names is None else names
    return Case(SCORE, name, lambda folder: (folder / file).write_bytes(data), right, called, shown=_measured)


def _scores() -> Iterator[Case]:
    yield _score("lists by score", "lists.csv", _lists(ranks=False), SOUND)
    yield _score("lists with BOM", "lists.csv", b"\xef\xbb\xbf" + _lists().encode(), SOUND)
    yield _score("lists with semicolons", "lists.csv", _lists(mark=";"), SOUND)
    yield _score(
        "lists shuffled",
        "lists.csv",
        "user_id,item_id,rank\n" + "".join(sorted(_lists().splitlines(True)[1:], reverse=True)),
        SOUND,
    )
    yield _score("lists CRLF", "lists.csv", _lists().replace("\n", "\r\n"), SOUND)
    yield _score("truth with a row twice", "truth.csv", _truth([*TRUTH, TRUTH[0]]), EITHER)
    for file, text in (("lists.csv", _lists()), ("truth.csv", _truth())):
        yield _score(f"{file} empty", file, "")
        yield _score(f"{file} header alone", file, text.splitlines()[0] + "\n", names="")
        yield _score(f"{file} noise", file, bytes(range(256)) * 9)
        yield _score(f"{file} UTF-16", file, text.encode("utf-16"), EITHER)
        yield _score(f"{file} without users", file, text.replace("user_id", "who"))
        yield _score(f"{file} column twice", file, text.replace("item_id", "user_id", 1))
        yield _score(f"{file} a quote", file, text + '"u9,a,1\n', EITHER)  # of a user who is in neither
        yield _score(f"{file} latin-1", file, text.replace("u1", "ué").encode("latin-1"))
        yield _score(f"{file} a cell too many", file, text + "u1,z,9,9,9\n")
        for word in EMPTY[:4]:
            yield _score(
                f"{file} {word} for a user",
                file,
                text + f"{word},a,1\n".replace(",1\n", ",1\n" if "rank" in text else "\n"),
                EITHER,
            )
    for word in ("nan", "x", "", "-inf", "1e400"):
        yield _score(f"a rank is {word!r}", "lists.csv", _lists().replace("u2,b,1", f"u2,b,{word}"), REFUSED)
        yield _score(
            f"a score is {word!r}", "lists.csv", _lists(ranks=False).replace("u2,b,0.9", f"u2,b,{word}"), REFUSED
        )
    yield _score("an item twice in a list", "lists.csv", _lists() + "u1,a,5\n", EITHER)


CASES: list[Case] = [
    *_uploads(),
    *_names(),
    *(Case(SHOWN, f"{what} in titles", _titled(word), EITHER) for what, word in CONTROLS.items()),
    *(Case(SHOWN, f"{what} as titles", _titled(word), EITHER) for what, word in WORDS.items() if word.isprintable()),
    *_scores(),
]
