import io
import tarfile
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest

from seqmm.data.item_files import ItemFiles, Unreadable, reading


class Pictures(ItemFiles):
    suffixes = (".jpg", ".png")
    what = "picture"


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def tar_of(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name.encode())
            tar.addfile(member, io.BytesIO(name.encode()))
    return path


def names(files: ItemFiles, item: str) -> list[str]:
    return [files.open(place).decode() for place in files.places(item)]


def test_an_items_files_in_order(tmp_path: Path) -> None:
    write(tmp_path, "a_10.jpg", "a_2.png", "a.jpg", "b_0.jpg", "c/front.jpg", "c/10.jpg", "c/9.jpg", "c/notes.txt")
    files = Pictures([tmp_path])
    assert names(files, "a") == ["a.jpg", "a_2.png", "a_10.jpg"]
    assert names(files, "b") == ["b_0.jpg"]
    assert names(files, "c") == ["c/9.jpg", "c/10.jpg", "c/front.jpg"]
    assert names(files, "d") == [] and len(files) == 7


def test_what_is_no_file_or_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "c.jpg").mkdir()
    files = Pictures([tmp_path])
    assert len(files) == 1 and names(files, "b") == names(files, "c") == [] and files.digest().startswith("1 files")
    monkeypatch.setattr("seqmm.data.item_files.MAX_BYTES", 4)
    with pytest.raises(Unreadable, match="5 bytes, more than 4"):
        names(files, "a")
    monkeypatch.undo()

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(Unreadable, match="no permission to read it"):
        names(files, "a")


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.add(write(tmp_path, "a.jpg") / "a.jpg", "a.jpg")
    with pytest.raises(ValueError, match=r"x\.tar\.gz is not a readable tar file: .*not compressed"):
        Pictures([tmp_path / "x.tar.gz"])


def test_known_items_decide_whose_a_numbered_file_is(tmp_path: Path) -> None:
    write(tmp_path, "a_1.jpg", "a_2.jpg", "x_1.jpg")
    unknown = Pictures([tmp_path])
    assert names(unknown, "a") == ["a_1.jpg", "a_2.jpg"] and names(unknown, "a_1") == ["a_1.jpg"]
    known = Pictures([tmp_path], items=["a", "a_1"])
    assert names(known, "a") == ["a_2.jpg"] and names(known, "a_1") == ["a_1.jpg"]


def test_tar_members_by_name_or_by_an_items_folder(tmp_path: Path) -> None:
    tar_of(tmp_path / "x.tar", "photos/1/2.jpg", "photos/1/1.jpg", "photos/2/1.jpg", "photos/7.jpg", "../../8.jpg")
    files = Pictures([tmp_path], items=["1", "2", "7", "8"])
    assert names(files, "1") == ["photos/1/1.jpg", "photos/1/2.jpg"]
    assert names(files, "2") == ["photos/2/1.jpg"] and names(files, "7") == ["photos/7.jpg"]
    assert names(files, "8") == ["../../8.jpg"]  # read, never unpacked
    assert names(Pictures([tmp_path / "x.tar"]), "7") == ["photos/7.jpg"]


@pytest.mark.parametrize("item", ["a/b", "a b", "50%", "../x", "Ü", "a%2Fb", "x" * 300, "..", "a_1/2"])
def test_any_id_is_found_percent_encoded(tmp_path: Path, item: str) -> None:
    from seqmm.data.item_files import file_stem

    write(tmp_path, f"{file_stem(item)}_3.jpg")
    assert len(names(Pictures([tmp_path], items=[item]), item)) == 1
    assert len(names(Pictures([tmp_path]), item)) == 1


@pytest.mark.parametrize("written, asked", [("NFD", "NFC"), ("NFC", "NFD")])
def test_an_accent_may_be_a_character_of_its_own(tmp_path: Path, written: str, asked: str) -> None:
    """File systems of macOS take names apart."""
    item, name = (unicodedata.normalize(form, "café 1") for form in (asked, written))
    assert item != name
    write(tmp_path, f"{name}.png", f"{name}_2.png", f"{name}/3.png")
    tar_of(tmp_path / "t.tar", f"{name}/4.png")
    expected = [f"{name}.png", f"{name}_2.png", f"{name}/3.png", f"{name}/4.png"]
    assert names(Pictures([tmp_path], items=[item]), item) == expected
    assert names(Pictures([tmp_path]), item) == expected[:3]  # whose folder a tar's is, the ids tell


def test_an_id_that_looks_encoded_has_not_the_file_of_another(tmp_path: Path) -> None:
    write(tmp_path, "a%2Fb.jpg")
    assert names(Pictures([tmp_path], items=["a%2Fb"]), "a%2Fb") == ["a%2Fb.jpg"]
    both = Pictures([tmp_path], items=["a%2Fb", "a/b"])
    assert names(both, "a/b") == ["a%2Fb.jpg"] and names(both, "a%2Fb") == []


def test_an_encoded_folder_and_the_plain_name(tmp_path: Path) -> None:
    write(tmp_path, quote("a/b", safe="") + "/1.jpg", "c d.jpg")
    files = Pictures([tmp_path], items=["a/b", "c d"])
    assert names(files, "a/b") == ["a%2Fb/1.jpg"] and names(files, "c d") == ["c d.jpg"]


def test_digest_tells_another_set_of_files(tmp_path: Path) -> None:
    write(tmp_path / "one", "a.jpg", "b/1.jpg")
    write(tmp_path / "two", "a.jpg", "b/1.jpg")
    write(tmp_path / "three", "a.jpg", "c/1.jpg")
    one, two, three = (Pictures([tmp_path / name]).digest() for name in ("one", "two", "three"))
    assert one == two != three
    (tmp_path / "two" / "a.jpg").write_bytes(b"longer than before")
    assert Pictures([tmp_path / "two"]).digest() != one


def test_errors_name_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere with pictures named <item id>\.jpg"):
        Pictures([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match=r"no picture and no tar of pictures in .*\.jpg, \.png"):
        Pictures([tmp_path])


def test_reading_gives_reasons_that_do_not_change() -> None:
    with pytest.raises(Unreadable, match="not a readable thing: the file is empty"), reading(b"", "thing"):
        pass
    with pytest.raises(Unreadable, match="not a readable thing: unknown format, it begins with b'abc'"):  # noqa: SIM117
        with reading(b"abc", "thing"):
            raise OSError(f"cannot open {io.BytesIO()!r}")
    with pytest.raises(Unreadable, match="not a readable thing: KeyError"), reading(b"abc", "thing"):
        raise KeyError
    with pytest.raises(MemoryError), reading(b"abc", "thing"):
        raise MemoryError
