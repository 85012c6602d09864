"""recipes/extract.py as a user runs it: tiny encoders of the real kinds, one process and two."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from recipes.extract import ExtractArguments, add_vectors, read_flags
from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus, write_synthetic
from seqmm.features.extractor import Extractor
from seqmm.options import Options, option
from seqmm.registry import EXTRACTORS

ITEMS = 1100  # two shards
KINDS = ["text", "text_sentences", "image", "image_keywords"]
SETS = [kind + "_tiny" for kind in KINDS]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extract")
    write_synthetic(folder / "corpus", synthetic_corpus(300, ITEMS, mean_length=12, seed=0))
    shutil.move(folder / "corpus" / "images", folder / "photos")
    for photo in sorted((folder / "photos").iterdir())[::9]:
        photo.unlink()
    return folder


@pytest.fixture(scope="module")
def run(home, repository):
    def extract(*arguments, processes=1, code=0):
        script = [str(repository / "recipes" / "extract.py"), *map(str, arguments)]
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
        command = [*launch, str(repository / "recipes" / "accelerate" / "cpu_2.yaml"), *script]
        if processes == 1:
            command = [sys.executable, *script]
        environment = os.environ | {"PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=home, env=environment, timeout=300)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stderr if code else done.stdout

    return extract


def read(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.glob("*/*")) if file.is_file()}


@pytest.mark.slow
def test_one_process_and_two_write_the_same_bytes_and_say_how_fast(home, run, bert, clip):
    broken = sorted((home / "photos").iterdir())[5]
    broken.write_bytes(b"not an image")
    row = Corpus.load(home / "corpus").item_ids.index(broken.stem)
    arguments = [
        "--features", *KINDS, "--suffix", "_tiny", "--text-encoder", bert, "--pooling", "mean", "--max-tokens", 16,
        "--threads", 1, "--images", "photos", "--image-encoder", f"clip:{clip}", "--image-dim", 8,
        "--tagger", f"clip:{clip}",
        "--min-count", 2, "--keywords", 3,
    ]  # fmt: skip
    shutil.copytree(home / "corpus", home / "two")
    said = run("--corpus", "corpus", *arguments)
    both = run("--corpus", "two", *arguments, processes=2)
    one, two = read(home / "corpus"), read(home / "two")
    assert sorted(one) == sorted(two) and all(one[name] == two[name] for name in one)
    assert "1,100 items at" in said and "items/s" in said and "process 1: 76 items at" in both
    corpus = Corpus.load(home / "corpus", features=SETS)
    image = corpus.features["image_tiny"]
    assert (
        corpus.features["text_tiny"].dim == 16 and image.dim == 8 and image.missing is not None and image.missing[row]
    )
    assert image.values[image.missing] == pytest.approx(0, abs=1e-5)  # the mean, of principal components
    assert "broken image: 1 items" in said and f"no image: {-(-ITEMS // 9)} items" in said
    card = (home / "corpus" / "README.md").read_text()
    assert "broken image: 1" in card and "CLIP" in card and "fitted on these items" in card
    load = __import__("datasets").load_dataset
    rows = load(str(home / "corpus"), "image_keywords_tiny", split="train", cache_dir=str(home / "cache"))
    assert rows.num_rows == ITEMS and rows[row]["values"] == [] and rows[row]["note"].startswith("broken image: ")
    words = (home / "corpus" / "image_tiny_vocabulary.txt").read_text().split()
    tagged = next(row for row in rows if row["values"])
    assert len(tagged["words"]) == 1 and set(tagged["words"][0].split()) <= set(words)
    assert run("--corpus", "corpus", *arguments).count("is there already") == 4


@pytest.mark.slow
def test_without_a_model_and_the_errors_of_a_slip(home, run):
    run("--corpus", "corpus", "--features", "text", "--text-encoder", "tfidf", "--suffix", "_tfidf")
    corpus = Corpus.load(home / "corpus", features=["text_tfidf"])
    vectors = corpus.features["text_tfidf"].values
    kind = np.array([title.split()[:2] for title in corpus.titles])
    same = (kind == kind[0]).all(1)
    similar = vectors @ vectors[0]
    assert similar[same].mean() > similar[~same].mean() + 0.2
    assert "nothing to extract" in run("--corpus", "corpus", code=2)
    assert "is not a prepared corpus" in run("--corpus", "photos", "--features", "text", code=2)
    assert "--images is needed: folders" in run("--corpus", "corpus", "--features", "image", code=2)
    unknown = ["--features", "text", "--text-columns", "titel", "--text-encoder", "tfidf"]
    assert "no column 'titel'; it has: item, id, title, " in run("--corpus", "corpus", *unknown, code=2)
    offline = run("--corpus", "corpus", "--features", "text", code=2)
    assert "bert-base-uncased" in offline and "Offline" in offline


@pytest.mark.slow
def test_an_extractor_of_ones_own_with_its_own_flags(home, run, repository):
    """From outside the repository, by a file of 20 lines beside the user; then two at once, and again."""
    example = (repository / "tests" / "examples" / "my_extractor.py").read_text()
    code = [line for line in example.split('"""', 2)[2].splitlines() if line.strip()]
    assert len(code) <= 25  # 20 without the imports
    assert len([line for line in code if not line.startswith(("import ", "from "))]) <= 20
    (home / "my_extractor.py").write_text(example)
    corpus = ["--corpus", "corpus", "--features", "my_extractor:Letters"]
    said = run(*corpus, "--letters", "aeiou", "--suffix", "_vowels")
    assert "letters_vowels   1,100 items" in said
    loaded = Corpus.load(home / "corpus", features=["letters_vowels"])
    found = loaded.features["letters_vowels"]
    expected = np.array([[title.lower().count(letter) for letter in "aeiou"] for title in loaded.titles])
    assert found.provenance["letters"] == "aeiou" and np.array_equal(found.values, expected)
    assert "is there already" in run(*corpus, "--letters", "aeiou", "--suffix", "_vowels")
    assert "letters: aeiou there, xyz now" in run(*corpus, "--letters", "xyz", "--suffix", "_vowels", code=2)
    shown = run(*corpus, "--help")
    assert "--letters" in shown and "Letters that are counted." in shown and "--max-words" not in shown
    plugged = run("--plugin", "my_extractor:Letters", "--corpus", "corpus", "--features", "letters")
    assert "letters          1,100 items" in plugged
    assert "my_extractor" in run("--corpus", "corpus", "--features", "my_extractor:Nothing", code=2)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--features text --mllm-layer -9", "--mllm-layer is a flag of fused, and --features has text; leave it out"),
        ("--features text --images photos", "--images is a flag of captions, fused, image, image_keywords, and"),
        ("--vectors a=b.npy --max_tokens=9", "--max-tokens is a flag of captions, .*and --features is not given"),
        ("--features txt", "unknown extractor 'txt'; did you mean 'text'"),
        ("--features text_sentences --text-recipe mmrec", "--text-recipe is 'mmrec'; nothing but tfidf would read it"),
        ("--features text --max-tokens 0", "--max-tokens is 0; choose 1 or more"),
        ("--features audio", "--audio is needed"),
        ("--features image_keywords --images p --tagger blip", "--tagger is 'blip'; choose clip:MODEL/WEIGHTS"),
        ("--features nowhere:Mine", "extractor nowhere:Mine: No module named 'nowhere'"),
    ],
)
def test_a_flag_that_nothing_reads_or_that_cannot_be(flags, error):
    with pytest.raises(ValueError, match=error):
        read_flags(["--corpus", "c", *flags.split()])


def test_flags_are_those_of_the_extractors_named(capsys):
    names = ["text", "text_sentences", "text"]
    arguments, chosen = read_flags(["--corpus", "c", "--features", *names, "--max-tokens", "9", "--suffix", "_x"])
    assert [(cls.name, options.max_tokens) for cls, options in chosen] == [("text", 9), ("text_sentences", 9)]
    assert arguments.suffix == "_x" and arguments.features == tuple(names)
    assert chosen[1][1].max_sentences == 10 and not hasattr(chosen[0][1], "max_sentences")
    _, ((fused, options),) = read_flags(["--corpus", "c", "--features", "fused", "--mllm", "m", "--mllm-layer", "-9"])
    assert fused.name == "fused" and (options.mllm, options.mllm_layer, options.images) == ("m", -9, ())
    with pytest.raises(SystemExit) as stop:
        read_flags(["--features", "audio", "--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0 and "--audio-seconds" in shown and "--pooling" not in shown


def test_two_extractors_whose_flags_mean_different_things_are_refused(monkeypatch):
    @dataclass(frozen=True)
    class Clashing(Options):
        seed: str = option("x", "Another seed.")

    class Mine(Extractor):
        name, options_class, __call__ = "mine", Clashing, None

    monkeypatch.setitem(EXTRACTORS._classes, "mine", [Mine])
    assert read_flags(["--corpus", "c", "--features", "mine", "--seed", "y"])[1][0][1].seed == "y"
    with pytest.raises(ValueError, match="TextOptions and Clashing both have an option --seed, of another meaning"):
        read_flags(["--corpus", "c", "--features", "text", "mine"])


def test_vectors_that_are_there_already_are_gone_over(tmp_path, capsys):
    """``--vectors`` killed between two sets, or before the card, goes on by the same command."""
    folder = tmp_path / "corpus"
    synthetic_corpus(num_users=20, num_items=30).save(folder)
    values = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    ids = Corpus.load(folder).item_ids
    for name, rows in (("a", values), ("b", values * 2), ("other", values * 3)):
        (tmp_path / f"{name}.csv").write_text(
            "id,x,y,z,w\n" + "".join(f"{i},{','.join(map(str, row))}\n" for i, row in zip(ids, rows, strict=True))
        )

    def add(**sets):
        add_vectors(ExtractArguments(folder, vectors=tuple(f"{name}={tmp_path / file}" for name, file in sets.items())))
        return capsys.readouterr().out

    assert "30 vectors" in add(a="a.csv")
    whole = (folder / "README.md").read_text()
    (folder / "README.md").write_text(whole.replace("| a |", "| |"))
    (folder / f".b.{2**22 + 1}.tmp").mkdir()
    said = add(a="a.csv", b="b.csv").splitlines()
    assert [line.split()[0] for line in said] == ["a", "b"] and "is there already" in said[0] and "30" in said[1]
    assert "| a |" in (folder / "README.md").read_text() and not list(folder.glob(".*"))
    assert add(a="a.csv", b="b.csv").count("is there already") == 2
    with pytest.raises(ValueError, match="has a feature set 'a' of other vectors or another encoder; add --overwrite"):
        add(a="other.csv")
    with pytest.raises(ValueError, match="of other vectors or another encoder"):
        add_vectors(ExtractArguments(folder, vectors=(f"a={tmp_path / 'a.csv'}",), vectors_made_by=("a=another",)))
