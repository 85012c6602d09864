"""Items' rows to vectors and notes, with encoders that can be told by hand; the real ones have tests of their own."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.extract import ExtractArguments, add_vectors
from seqmm.data.corpus import Corpus
from seqmm.data.item_files import Unreadable
from seqmm.data.item_images import ImageFiles
from seqmm.data.synthetic import synthetic_corpus
from seqmm.features.encoders.multimodal import Product
from seqmm.features.extract import extract
from seqmm.features.extractors.audio import Audio
from seqmm.features.extractors.captions import Captions
from seqmm.features.extractors.fused import Fused
from seqmm.features.extractors.image import Images
from seqmm.features.extractors.image_keywords import ImageKeywords, ImageNetKeywords
from seqmm.features.extractors.text import Text
from seqmm.features.extractors.text_keywords import TextKeywords
from seqmm.features.extractors.text_sentences import TextSentences
from seqmm.features.extractors.text_word_drop import TextWordDrop
from seqmm.features.pca import Pca
from seqmm.features.readers.products import ProductReader
from seqmm.features.readers.sounds import AudioFiles
from seqmm.features.readers.texts import all_texts
from seqmm.features.tools import Tools
from seqmm.options import OptionError, about, option_fields, refuse_idle
from seqmm.registry import EXTRACTORS


class Words:
    """A text as its numbers of words and of letters."""

    dim = 2
    provenance = {"encoder": "words"}

    def encode(self, texts: Sequence[str], *, batch_size: int = 64, label: str | None = None) -> np.ndarray:
        return np.array([[len(text.split()), len(text)] for text in texts], np.float32).reshape(-1, 2)


class Colours:
    """An image as its mean red, green and blue, from 0 to 1; as a tagger it ranks the words red, green, blue."""

    dim = num_classes = 3
    provenance = {"encoder": "colours"}

    def __call__(self, images: Sequence[Image.Image]) -> np.ndarray:
        return np.array([np.asarray(image).mean((0, 1)) / 255 for image in images], np.float32)

    see = __call__

    def words(self, vocabulary: Sequence[str]) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[[["red", "green", "blue"].index(word) for word in vocabulary]]

    def place(self, seen: np.ndarray, mean: np.ndarray) -> np.ndarray:
        return seen / (mean + 1e-3)


class Reader:
    """A multimodal model that counts the fields it was told of, and images."""

    dim = 2
    provenance = {"encoder": "reader"}

    def __call__(self, products: Sequence[Product]) -> np.ndarray:
        assert not any(product.empty for product in products)
        rows = [[product.fields().count(":"), product.image is not None] for product in products]
        return np.array(rows, np.float32).reshape(-1, 2)


class Writer:
    provenance = {"caption": "writer"}

    def __call__(self, products: Sequence[Product]) -> list[str]:
        assert not any(product.empty for product in products)
        return ["" if product.title == "mute" else f"This is {product.title or 'a picture'}." for product in products]


class Lengths:
    """A sound as the number of its bytes."""

    dim = 1
    provenance = {"encoder": "lengths"}

    def read(self, content: bytes) -> np.ndarray:
        if not content:
            raise Unreadable("the file is empty")
        return np.zeros(len(content), np.float32)

    def __call__(self, sounds: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([[len(sound)] for sound in sounds], np.float32)


HAVE = ("item", "id", "title", "brand", "description")


def rows(*titles: str | None) -> list[dict]:
    return [{"id": f"i{n}", "title": title, "brand": "", "description": ""} for n, title in enumerate(titles)]


def told(extractor, table: list[dict]) -> tuple[list[list[list[float]]], list[str]]:
    done: list[int] = []
    found = extractor(table, done.append)
    assert sum(done) == len(table)
    return [part.vectors.round(2).tolist() for part in found], [part.note for part in found]


@pytest.fixture
def photos(tmp_path: Path) -> ImageFiles:
    """i0 is red, i1 has two images (green and blue), i2's is broken; i3 has none."""
    for name, colour in (("i0", "red"), ("i1", "lime"), ("i1_2", "blue")):
        Image.new("RGB", (10, 10), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "i2.jpg").write_bytes(b"no image")
    return ImageFiles([tmp_path])


def test_a_text_of_blanks_is_no_text() -> None:
    for recipe in ("plain", "mmrec"):
        vectors, notes = told(Text(Words(), HAVE, recipe), rows("one two", "", None))
        assert [len(part) for part in vectors] == [1, 0, 0] and notes == ["", "no text", "no text"], recipe
    vectors, _ = told(TextWordDrop(Words(), HAVE, dropped=0.99), rows("one two three"))
    assert vectors == [[[1, 3]]] or vectors == [[[1, 5]]]
    vectors, notes = told(TextSentences(Words(), HAVE, limit=2), rows("one two", "--"))
    assert vectors == [[[2, 7]], []] and notes == ["", "no text"]


def test_all_texts_of_a_corpus(tmp_path: Path) -> None:
    corpus = synthetic_corpus(8, 4, modalities=())
    texts = ["about nothing", "", None, " "]
    Corpus(**{**vars(corpus), "titles": ()}).save(tmp_path / "c", item_columns={"description": texts})
    for recipe in ("plain", "mmrec"):
        found = list(all_texts(tmp_path / "c", recipe))
        assert [text.strip() for text in found] == ["about nothing"], recipe


def test_images_and_their_keywords(photos: ImageFiles) -> None:
    table = rows("", "", "", "")
    vectors, notes = told(Images(Colours(), photos, limit=2), table)
    assert vectors == [[[1, 0, 0]], [[0, 0.5, 0.5]], [], []]
    assert notes[:2] == ["", ""] and notes[2].startswith("broken image: i2.jpg: ") and notes[3] == "no image"
    tagger = ImageKeywords(Colours(), Words(), photos, ["blue", "red", "green"], top=2)
    found = tagger(table, lambda count: None)
    assert [part.words for part in found] == [["red blue"], ["green blue", "blue red"], [], []]
    assert found[1].vectors.tolist() == [[2, 10], [2, 8]] and found[3].vectors.shape == (0, 2)


def test_fused_vectors_of_what_there_is(photos: ImageFiles) -> None:
    table = rows("a", "", "b", "")
    vectors, notes = told(Fused(Reader(), ProductReader(HAVE, photos), dim=None), table)
    assert vectors == [[[1, 1]], [[0, 1]], [[1, 0]], []]
    assert notes[:2] == ["", ""] and notes[2].startswith("broken image: ") and notes[3] == "no text, no image"
    vectors, notes = told(Fused(Reader(), ProductReader(HAVE, None)), rows("a", ""))
    assert vectors == [[[1, 0]], []] and notes == ["", "no text, no image"]


def test_captions_are_not_asked_for_of_nothing(photos: ImageFiles) -> None:
    table = rows("a ball", "", "mute", "")
    found = Captions(Writer(), Words(), ProductReader(HAVE, photos))(table, lambda count: None)
    assert [part.words for part in found] == [["This is a ball."], ["This is a picture."], [], []]
    assert [len(part.vectors) for part in found] == [1, 1, 0, 0]
    assert [part.note for part in found] == ["", "", "no caption", "no text, no image"]


def test_sounds(tmp_path: Path) -> None:
    (tmp_path / "i0.wav").write_bytes(b"four")
    (tmp_path / "i1.wav").write_bytes(b"")
    vectors, notes = told(Audio(Lengths(), AudioFiles([tmp_path])), rows("", "", ""))
    assert vectors == [[[4]], [], []] and notes == ["", "broken sound: i1.wav: the file is empty", "no sound"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six items with a photo each, in the colours of the rainbow."""
    made = synthetic_corpus(12, 6, modalities=())
    made.save(tmp_path / "corpus")
    (tmp_path / "photos").mkdir()
    for name, colour in zip(made.item_ids, ("red", "orange", "yellow", "lime", "blue", "purple"), strict=True):
        Image.new("RGB", (10, 10), colour).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path / "corpus"


def test_another_width_after_pca_is_another_set(corpus: Path) -> None:
    """Shards hold what is before it, so that only the last step is done again."""
    files = ImageFiles([corpus.parent / "photos"])

    def images(dim: int) -> Images:
        return Images(Colours(), files, transform=Pca(dim))

    extract(corpus, "image", images(2))
    assert extract(corpus, "image", images(2)).skipped
    with pytest.raises(ValueError, match="reduced or stored otherwise"):
        extract(corpus, "image", images(1))
    extract(corpus, "image", images(1), overwrite=True)
    found = Corpus.load(corpus, features=["image"]).features["image"]
    assert found.dim == 1 and found.provenance["pca"].startswith("1, fitted on these items")


def test_imagenet_keywords_over_all_images(corpus: Path) -> None:
    files = ImageFiles([corpus.parent / "photos"])
    extract(corpus, "words", ImageNetKeywords(Colours(), Words(), files, ["red", "green", "blue"], top=1))  # type: ignore[arg-type]
    found = Corpus.load(corpus, features=["words"]).features["words"]
    assert found.dim == 2 and found.offsets is not None and np.diff(found.offsets).tolist() == [1] * 6
    import pyarrow.parquet as pq

    words = pq.read_table(next((corpus / "words").glob("*.parquet")))["words"].to_pylist()
    assert [row[0] for row in words[3:5]] == ["green", "blue"]


def test_vectors_that_are_there_already(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def add(**options: object) -> None:
        add_vectors(ExtractArguments(corpus, **options))  # type: ignore[arg-type]

    ids = Corpus.load(corpus).item_ids
    file = corpus.parent / "v.csv"
    file.write_text("id,a,b\n" + "".join(f"{name},{n},1\n" for n, name in enumerate(ids[1:])) + "more,1,1\n")
    add(vectors=(f"clip={file}",), vectors_made_by=("clip=CLIP",))
    found = Corpus.load(corpus, features=["clip"]).features["clip"]
    assert found.values[1:, 0].tolist() == [0, 1, 2, 3, 4] and found.values[0].tolist() == [2, 1]
    assert found.missing is not None and found.missing.tolist() == [True, *[False] * 5]
    assert found.provenance == {"encoder": "CLIP", "missing": "mean vector"}
    assert "1 in the file but no item of the corpus: 'more'" in capsys.readouterr().out
    with pytest.raises(ValueError, match="has a feature set 'clip' of other vectors .*; add --overwrite True"):
        add(vectors=(f"clip={file}",))
    with pytest.raises(ValueError, match=r"--vectors-made-by clpi=…: no such set in --vectors, which has: clip"):
        add(vectors=(f"clip={file}",), vectors_made_by=("clpi=CLIP",))


def test_one_clip_for_all_it_is_asked_for(corpus: Path, clip: str) -> None:
    tools, name = Tools(corpus, "cpu"), f"clip:{clip}"
    photos = (corpus.parent / "photos",)
    image = Images.make(Images.options_class(images=photos, image_encoder=name), tools)
    text = Text.make(Text.options_class(text_encoder=name), tools)
    choices = {"images": photos, "text_encoder": name, "tagger": name, "min_count": 1, "keywords": 1}
    words = ImageKeywords.make(ImageKeywords.options_class(**choices), tools)
    assert image.encoder.clip is words.tagger.clip is words.encoder.clip is text.encoder.clip
    assert image.files is words.files and text.encoder is words.encoder
    assert Text.make(Text.options_class(text_encoder=name), Tools(corpus, "cpu")).encoder is not text.encoder


def test_what_an_encoder_does_not_have(corpus: Path) -> None:
    with pytest.raises(OptionError, match="max_tokens 9 is not an option of the text encoder tfidf; leave it out"):
        Text.make(Text.options_class(text_encoder="tfidf", max_tokens=9), Tools(corpus, "cpu"))
    with pytest.raises(OptionError, match=r"TextOptions\.pooling is 'max'; choose one of mean, cls"):
        Text.options_class(pooling="max")
    with pytest.raises(OptionError, match=r"AudioOptions\.audio is needed: folders or tar files of <item id>\.wav"):
        Audio.options_class()
    with pytest.raises(OptionError, match=r"tagger is 'blip'; choose clip:MODEL/WEIGHTS"):
        ImageKeywords.options_class(images=(corpus,), tagger="blip")


def test_an_option_that_nothing_reads_is_refused() -> None:
    """What one extractor leaves unread another may read: together they are right."""
    text, sentences = Text.options_class(text_recipe="mmrec"), TextSentences.options_class(text_recipe="mmrec")
    with pytest.raises(OptionError, match=r"text_recipe is 'mmrec'; nothing but tfidf would read it"):
        refuse_idle([sentences])
    refuse_idle([sentences, text])
    refuse_idle([TextSentences.options_class(text_recipe="mmrec", text_encoder="tfidf")])
    refuse_idle([TextWordDrop.options_class(seed=3)])
    with pytest.raises(OptionError, match=r"seed is 3"):
        refuse_idle([Text.options_class(seed=3)])
    photos = (Path("photos"),)
    words = ImageKeywords.options_class(images=photos, image_encoder="efficientnet-lite0")
    with pytest.raises(OptionError, match="only the tagger imagenet, or the extractor image, reads it"):
        refuse_idle([words])
    refuse_idle([words, Images.options_class(images=photos, image_encoder="efficientnet-lite0")])
    with pytest.raises(OptionError, match=r"min_count is 2; the words come from `vocabulary`"):
        refuse_idle([ImageKeywords.options_class(images=photos, vocabulary=Path("words.txt"), min_count=2)])


def test_tags_as_one_string_of_words() -> None:
    have = ("item", "id", "genres", "keywords")
    table = [
        {"id": "a", "genres": ["War", "<i>Sci-Fi</i>"], "keywords": ["robot "]},
        {"id": "b", "genres": [], "keywords": None},
    ]
    found = TextKeywords(Words(), have, limit=3)
    assert found.columns == ("genres", "keywords") and found.kind == "ragged"
    assert [found.read(row) for row in table] == [["War Sci-Fi robot"], []]
    assert TextKeywords(Words(), have, ("keywords",)).read(table[0]) == ["robot"]
    vectors, notes = told(TextKeywords(Words(), have, limit=1), table)
    assert vectors == [[[1, 3]], []] and notes == ["", "no text"]
    with pytest.raises(ValueError, match="no column of genres, categories, keywords, tags"):
        TextKeywords(Words(), HAVE)


def test_the_table_of_extractors_is_that_of_the_files() -> None:
    """One file an extractor, of its name; each says in a sentence what it makes, and its options what they do."""
    import seqmm.features.extractors as package

    files = {file.stem for file in Path(package.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(EXTRACTORS._files) == files  # one's own of other tests are registered, too
    assert len(files) == 9
    for name in files:
        (cls,) = EXTRACTORS.classes(name)
        assert cls.name == name and cls.__doc__.splitlines()[0].endswith(".")
        assert all(about(each).help for each in option_fields(cls.options_class))


def test_broken_bytes_never_stop_a_shard(photos: ImageFiles, tmp_path: Path) -> None:
    """Every byte of a photo flipped in turn: an image or a note."""
    stream = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(stream, "PNG")
    whole = bytearray(stream.getvalue())
    table = []
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / f"d{place}.png").write_bytes(damaged)
        table.append({"id": f"d{place}"})
    vectors, notes = told(Images(Colours(), ImageFiles([tmp_path])), table)
    assert all(bool(vector) == (note == "") for vector, note in zip(vectors, notes, strict=True)) and any(notes)
