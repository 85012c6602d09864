import io
import os
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


@pytest.mark.parametrize("packed", [False, True])
def test_files_in_nested_folders(tmp_path: Path, packed: bool) -> None:
    """As H&M's photos, by the beginning of the id; by anything else; and an item's own folder, however deep."""
    every = ["010/0108775015.jpg", "011/more/0118775016.PNG", "011/0118775016_2.jpg", "0.jpg", "x/7/9.jpg",
             "x/7/b/1.jpg", "x/y/7.jpg", "8/big/9.jpg", "010/._0108775015.jpg"]  # fmt: skip
    tar_of(tmp_path / "a.tar", *every) if packed else write(tmp_path, *every)
    files = Pictures([tmp_path], items=["0108775015", "0118775016", "0", "7", "8", "9"])
    assert names(files, "0108775015") == ["010/0108775015.jpg"]
    assert names(files, "0118775016") == ["011/more/0118775016.PNG", "011/0118775016_2.jpg"]
    assert names(files, "0") == ["0.jpg"]
    assert names(files, "7") == ["x/y/7.jpg", "x/7/9.jpg", "x/7/b/1.jpg"]  # the folder is nearer than the name "9"
    assert names(files, "9") == ["8/big/9.jpg"]  # but not this one
    assert names(files, "8") == [] and len(files) == 8
    unknown = Pictures([tmp_path])
    assert names(unknown, "0108775015") == ["010/0108775015.jpg"]
    assert names(unknown, "0118775016") == ["011/more/0118775016.PNG"] if not packed else True


def test_folders_that_are_links(tmp_path: Path) -> None:
    """Are followed, also those that lead back, once; hidden ones are not."""
    write(tmp_path / "disk", "010/a.jpg", ".thumbnails/b.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "part").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "010" / "up").symlink_to(tmp_path / "images")
    files = Pictures([tmp_path / "images"], items=["a", "b"])
    assert names(files, "a") == ["010/a.jpg"] and names(files, "b") == [] and len(files) == 1


@pytest.mark.parametrize("kind", ["size", "sparse", "short"])
def test_a_tar_that_says_more_than_it_holds(tmp_path: Path, kind: str) -> None:
    member = tarfile.TarInfo("a.jpg")
    if kind == "sparse":  # of GNU: a billion zeros in a header
        member.pax_headers = {"GNU.sparse.size": "1000000000", "GNU.sparse.map": "0,0"}
    member.size = {"size": 900_000_000, "sparse": 0, "short": 100}[kind]
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.PAX_FORMAT) + b"\0" * (10 if kind == "short" else 1024))
    said = "its header says 1,000,000,000 bytes, the tar has" if kind == "sparse" else r"x\.tar is not a readable tar"
    with pytest.raises(ValueError, match=said):
        names(Pictures([tmp_path / "x.tar"], items=["a"]), "a")


def test_an_encoded_folder_and_the_plain_name(tmp_path: Path) -> None:
    write(tmp_path, quote("a/b", safe="") + "/1.jpg", "c d.jpg")
    files = Pictures([tmp_path], items=["a/b", "c d"])
    assert names(files, "a/b") == ["a%2Fb/1.jpg"] and names(files, "c d") == ["c d.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_a_name_of_another_coding_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    files = Pictures([write(tmp_path, "a.png")], ["a"])
    assert names(files, "a") == ["a.png"] and files.digest().startswith("2 files")


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
