"""What a kill leaves is put back or removed by the next run; what a living process writes stays."""

import os
import signal
import subprocess
import sys

import pytest

from seqmm.files import check_free, replacing, write_text, writing
from seqmm.leftovers import held, leftovers, neighbour, put_back, put_back_inside, tidy, tidy_inside

DEAD = 2**22 + 1  # above the largest process id


def killed(work, moment: int) -> bool:
    """Runs ``work`` in a child that kills itself before its ``moment``-th call on the disk; False if it has fewer."""
    child = os.fork()
    if child == 0:
        left = [moment]

        def counting(function):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            return call

        for name in ("open", "mkdir", "rename", "replace", "unlink", "rmdir", "close"):
            setattr(os, name, counting(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_survives_a_kill_at_every_moment(tmp_path):
    target = tmp_path / "corpus"

    def write(text: str) -> None:
        with replacing(target) as place:
            (place / "inside").mkdir()
            write_text(place / "inside" / "a.txt", text)
            write_text(place / "b.txt", text)

    write("0")
    whole = [{"inside/a.txt": text, "b.txt": text} for text in ("0", "1")]
    moments, was_away = 0, 0
    while killed(lambda: write("1"), moments):
        was_away += not target.exists()
        put_back(target)  # as the next reader does
        assert contents(target) in whole, moments
        write("0")  # as the next run does
        assert contents(target) == whole[0]
        assert os.listdir(tmp_path) == ["corpus"], moments
        moments += 1
    assert moments > 15 and was_away  # the moment between the two renames was among them
    assert contents(target) == whole[1]


def test_the_next_writer_puts_back_what_it_then_fails_to_replace(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "corpus.json").write_text("{}")
    (tmp_path / "corpus").rename(tmp_path / f".corpus.{DEAD}.old")
    (tmp_path / f".corpus.{DEAD}.tmp").mkdir()
    with pytest.raises(KeyError), replacing(tmp_path / "corpus"):
        raise KeyError
    assert os.listdir(tmp_path) == ["corpus"] and contents(tmp_path) == {"corpus/corpus.json": "{}"}


def test_a_folder_that_was_moved_aside_is_not_free(tmp_path):
    old = tmp_path / f".corpus.{DEAD}.old"
    old.mkdir()
    (old / "corpus.json").write_text("{}")
    with pytest.raises(ValueError, match="exists and is not empty"):
        check_free(tmp_path / "corpus", "corpus.json", "a prepared corpus")
    (tmp_path / "corpus" / f".text.{DEAD}.old").mkdir()
    put_back_inside(tmp_path / "corpus")
    assert sorted(os.listdir(tmp_path / "corpus")) == ["corpus.json", "text"]


def test_a_file_survives_a_kill_at_every_moment(tmp_path):
    file, moments = tmp_path / "a.json", 0
    write_text(file, "0")
    while killed(lambda: write_text(file, "1"), moments):
        assert file.read_text() in "01"
        write_text(file, "0")
        assert os.listdir(tmp_path) == ["a.json"]
        moments += 1
    assert moments > 3 and file.read_text() == "1"


def test_what_a_living_process_writes_stays(tmp_path):
    """Whatever machine it is on: its lock says so, not its number."""
    code = (
        "import sys; from pathlib import Path; from seqmm.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as place:\n"
        "    (place / 'a').touch(); print(place, flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "corpus")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        place = process.stdout.readline().strip()
        tidy(tmp_path / "corpus")
        tidy_inside(tmp_path)
        with replacing(tmp_path / "other"):
            assert os.listdir(place) == ["a"] and not leftovers(tmp_path)
        process.kill()
        process.wait()
        assert {left.kind for left in leftovers(tmp_path)} == {"tmp", "lock"}
        process.stdin.close()
    tidy(tmp_path / "corpus")
    assert os.listdir(tmp_path) == ["other"]


def test_foreign_files_stay(tmp_path):
    foreign = [".corpus.tmp", ".corpus.x.tmp", f".other.{DEAD}.tmp", f"corpus.{DEAD}.tmp", f".corpus.{DEAD}.swp"]
    for name in foreign:
        (tmp_path / name).write_text("mine")
    (tmp_path / f".corpus.{DEAD}.tmp").write_text("rubbish")
    with replacing(tmp_path / "corpus"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*foreign, "corpus"])


def test_what_is_not_ours_is_in_the_new_folder_too(tmp_path):
    corpus = tmp_path / "corpus"
    for name in (
        "corpus.json",
        "notes.txt",
        "text/a.parquet",
        "text/mine.txt",
        "checkpoints/llm/weights.bin",
        ".hidden",
    ):
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_text("old")
    (corpus / "link").symlink_to(tmp_path)
    with pytest.raises(OSError), replacing(corpus, ("corpus.json", "text/*.parquet")):
        raise OSError("no space")
    assert (corpus / "text" / "a.parquet").exists(), "a write that failed changes nothing"
    with replacing(corpus, ("corpus.json", "text/*.parquet")) as place:
        (place / "corpus.json").write_text("new")
    kept = {str(path.relative_to(corpus)) for path in corpus.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert kept == {"corpus.json", "notes.txt", "text/mine.txt", "checkpoints/llm/weights.bin", ".hidden", "link"}
    assert (corpus / "corpus.json").read_text() == "new" and (corpus / "notes.txt").read_text() == "old"
    assert (corpus / "link").is_symlink() and os.listdir(tmp_path) == ["corpus"]


def test_what_a_folder_inside_an_unfinished_one_left_goes_with_it(tmp_path):
    for name in (f"..corpus.{DEAD}.tmp.{DEAD}.old", f".corpus.{DEAD}.tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / f"..corpus.{DEAD}.tmp.{DEAD}.lock").touch()
    foreign = [f"..other.{DEAD}.tmp.{DEAD}.lock", f"..corpus.{DEAD}.swp.{DEAD}.lock"]
    for name in foreign:
        (tmp_path / name).touch()
    put_back(tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists(), "of an unfinished folder nothing is put back"
    tidy(tmp_path / "corpus")
    assert sorted(os.listdir(tmp_path)) == sorted(foreign)


def test_a_link_is_removed_and_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a").touch()
    (tmp_path / f".corpus.{DEAD}.tmp").symlink_to(tmp_path / "mine")
    tidy(tmp_path / "corpus")
    assert sorted(os.listdir(tmp_path)) == ["mine"] and os.listdir(tmp_path / "mine") == ["a"]


def test_a_disk_without_locks(tmp_path, monkeypatch):
    """Then the number of the process and the name of its machine tell."""
    import seqmm.leftovers

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(seqmm.leftovers.fcntl, "flock", refuse)
    with writing(tmp_path / "a") as temporary:
        temporary.write_text("x")
        tidy(tmp_path / "a")
        assert temporary.is_file()
    with held(tmp_path / "b"):
        lock = neighbour(tmp_path / "b", "lock").read_bytes()
    for host, stays in ((lock, False), (b"another", True)):
        (tmp_path / f".c.{DEAD}.lock").write_bytes(host)
        (tmp_path / f".c.{DEAD}.tmp").mkdir()
        tidy(tmp_path / "c")
        assert (tmp_path / f".c.{DEAD}.tmp").exists() == stays
