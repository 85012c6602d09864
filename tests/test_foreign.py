"""Hostile names, titles, tags and notes: no path outside, no heading, no escape, no command, no formula."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

import seqmm
from seqmm.bench.plan import Cell
from seqmm.bench.table import Row, report
from seqmm.cli import PlainLines, run_recipe
from seqmm.data.card import KEPT, card_text, kept_text
from seqmm.data.image_download import Failure
from seqmm.data.store import read_record
from seqmm.files import read_yaml, write_json, yaml_text
from seqmm.foreign import cells, code, inline, is_seen, path_name, shown, word
from seqmm.publishing.cards import model_card
from seqmm.publishing.plans import plan_corpus, plan_model
from seqmm.run.settings import RunConfig

HOSTILE = [
    "../../etc/passwd",
    "..",
    ".",
    "/etc/passwd",
    "a/../../b",
    "..\\..\\windows",
    "~/.ssh/id_rsa",
    ".env",
    "-rf",
    "--config=evil.yaml",
    "C:\\Users\\me",
    "CON",
    "x" * 5000,
    "é" * 300,
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned #",
    "a\ntouch pwned",
    "' && touch pwned && '",
    "x\n# Owned",
    "x\r\n## Owned",
    "x\u2028# Owned",
    "x\x85# Owned",
    "x\n---\nlicense: mit\n---\n# Owned",
    "x\n...\n",
    "x: {y: [&a *a]}",
    "x # comment",
    "!!python/object/apply:os.system [touch pwned]",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- what you write below this line is kept -->",
    "&lt;b&gt;",
    "[click](javascript:alert(1))",
    "![x](http://evil/x.png)",
    "a | b | c",
    "|---|---|",
    "```\nowned\n```",
    "`` ` ``",
    "**bold** _it_ ~~gone~~",
    "\x1b[2J\x1b[31mred",
    "\x9b31mred",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil\x1b\\link",
    "rich\u202etxt.exe",
    "\u2066hidden\u2069",
    "a\x00b",
    "bell\x07",
    "back\x08\x08space",
    "carriage\rreturn",
    "\ufeffmark",
    "\ud800",
    "tag\U000e0041",
    "=1+1",
    "@SUM(1)",
    '=HYPERLINK("http://evil")',
    "{{7*7}} ${7*7} %s %(x)s",
    "",
    " ",
]
WRITABLE = [text for text in HOSTILE if text.isascii() or "\ud800" not in text]
"""Those that UTF-8 can hold: a lone surrogate is in no file."""
SMALL = {"num_users": 30, "num_items": 25}


def steers(text: str) -> list[str]:
    return [letter for letter in text if letter != "\n" and not is_seen(letter)]


def structure(card: str) -> list[str]:
    """What Markdown makes of a card's lines beside words: headings, rules, fences, and the columns of its rows."""
    lines = card.split("\n")
    found = []
    for line in lines:
        if re.match(r" {0,3}(#{1,6}(\s|$)|```|~~~|---|===|\|)", line):
            columns = len(re.findall(r"(?<!\\)\|", line))
            heading = re.match(r" {0,3}#+", line)
            found.append(f"{columns} columns" if columns else heading[0] if heading else line[:3])
    return found


def below(card: str) -> str:
    """The Markdown of a card: what follows its front matter, without the line that ends what is ours."""
    text = card.split("\n---\n", 1)[1]
    assert text.count(f"\n{KEPT}\n") == 1
    return text.replace(f"\n{KEPT}\n", "")


# -- the functions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_stays_in_its_folder(text, tmp_path):
    for name in (path_name("bpr", text, "train"), path_name(text, "seed0"), path_name(text) or "x"):
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert not name.startswith(".") and not steers(name) and "\n" not in name
        (tmp_path / name).mkdir(exist_ok=True)
    assert shlex.split(path_name("bpr", text)) == [path_name("bpr", text)]


def test_long_names_stay_apart():
    one, two = path_name("x" * 300 + "a"), path_name("x" * 300 + "b")
    assert one != two and len(one) <= 200


@pytest.mark.parametrize("text", HOSTILE)
def test_a_line_is_a_line_and_steers_nothing(text):
    line = shown(text)
    assert not steers(line) and "\n" not in line
    line.encode()
    assert json.loads(f'"{shown(json.dumps(text, ensure_ascii=False)[1:-1])}"') == text, "JSON stays the same data"


@pytest.mark.parametrize("text", ["Café ☕ 寿司 قهوة", "नमस्ते क्‍ष", "👩‍👩‍👧", "x < y & z | #1 *", "tab-free"])
def test_honest_text_is_shown_as_it_is(text):
    assert shown(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_card_s_markup_is_left(text):
    line = inline(text)
    assert not steers(line) and "\n" not in line
    assert not re.search(r"(?<!\\)(\\\\)*[|\[\]`*~]", line) and "<" not in line and ">" not in line
    assert structure(f"# {line}") == ["#"] or not line.strip()


@pytest.mark.parametrize("text", ["ml-100k", "text_vector", "encoder: bert-base (mean), v1.0", "https://a.b/c_d?e=1"])
def test_ordinary_names_stay_readable_in_a_card(text):
    assert inline(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_code_is_one_span(text):
    line = code(text)
    fence = re.match("`+", line)[0]
    assert line.endswith(fence) and fence not in line[len(fence) : -len(fence)] and "\n" not in line and "|" not in line


def test_a_word_is_one_argument_of_bash_and_runs_nothing(tmp_path):
    words = [text for text in WRITABLE if "\x00" not in text]
    line = "printf '%s\\0' " + " ".join(map(word, words))
    assert "\n" not in line and not steers(line)
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, env={"LC_ALL": "C.UTF-8"})
    assert done.stdout.decode().split("\0")[:-1] == words, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "＝"])
def test_a_cell_is_no_formula(start):
    text = f'{start}cmd|"/c calc"!A0'
    assert cells([text, "plain", 3, None]) == [f"'{text}", "plain", 3, None]


@pytest.mark.parametrize("number", ["-1", "+2.5", "-1e-3", "-0", "007", "-inf"])
def test_a_number_stays_one(number):
    assert cells([number]) == [number]


def test_the_report_of_a_download_is_safe(tmp_path):
    from seqmm.data.image_download import FAILURES, DownloadReport, _write_failures

    failure = Failure("=1+1", "@x", "-kind", "\t=2")
    _write_failures(DownloadReport(tmp_path, 1, 0, failures=[failure]))
    rows = list(csv.reader(io.StringIO((tmp_path / FAILURES).read_text(), newline="")))
    assert rows[1] == ["'=1+1", "'@x", "'-kind", "'\t=2"]


# -- where they are used -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_the_folder_of_a_run_lies_in_runs(text):
    corpus = replace(seqmm.synthetic_corpus(**SMALL), name=text)
    output = seqmm.Run.of("popularity", corpus).output
    assert output.parent == Path("runs") and output.name.startswith("popularity") and ".." not in output.parts
    cell = Cell(text, 0, "x.yaml", RunConfig(seqmm.make_model("popularity", corpus).config))
    assert len(Path(cell.name).parts) == 1 and not cell.name.startswith(".")


def test_the_card_of_a_corpus_has_the_same_structure_whatever_it_is_called(tmp_path):
    corpus = seqmm.synthetic_corpus(**SMALL)
    corpus.save(tmp_path)
    plain, record = (tmp_path / "README.md").read_text(), read_record(tmp_path)
    right = structure(plain)
    for text in filter(str.strip, WRITABLE):  # a corpus has a name
        about = record["protocols"]["leave_one_out"] | {"info": {"source": text, text or "x": "y"}}
        write_json(tmp_path / "corpus.json", record | {"name": text, "protocols": {"leave_one_out": about}})
        card = card_text(tmp_path, read_record(tmp_path) | {"license": {"license": "mit"}}) + kept_text(tmp_path / "x")
        assert not steers(card), text
        assert [line for line in structure(card) if line == "#"] == ["#"], text
        front = DatasetCard(card).data.to_dict()
        assert (
            set(front) == {"pretty_name", "license", "size_categories", "tags", "configs"} and front["license"] == "mit"
        )
        assert set(structure(card)) == set(right), text
        assert "<" not in below(card) and "<" not in str(front["pretty_name"]), text


def test_a_record_s_licence_adds_no_key(tmp_path):
    seqmm.synthetic_corpus(**SMALL).save(tmp_path)
    record = read_record(tmp_path)
    hostile = {"license": "mit", "configs": "evil", "x\ny": "1"}
    write_json(tmp_path / "corpus.json", record | {"license": hostile})
    front = DatasetCard(plan_corpus(tmp_path, "org/x").files["README.md"].decode()).data.to_dict()
    assert front["license"] == "mit" and "evil" not in str(front) and "x\ny" not in front


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    corpus = seqmm.synthetic_corpus(**SMALL)
    corpus.save(folder / "corpus")
    corpus = seqmm.load_corpus(str(folder / "corpus"))
    train = seqmm.TrainArguments(epochs=1, output_dir=str(folder / "bpr"))
    seqmm.Run.of("bpr", corpus, train=train, hidden_size=8).fit()
    return folder / "bpr"


def test_the_card_of_a_model_has_the_same_structure_whatever_the_corpus_is_called(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    right = structure(model_card(run, {"license": "mit"}))
    try:
        for text in WRITABLE:
            trained = config["corpus"] | {"name": text, "protocol": text, "fingerprint": text}
            write_json(run / "config.json", config | {"corpus": trained, "pretrained_on": trained})
            card = model_card(run, {"license": "mit"})
            assert not steers(card) and structure(card) == right, text
            data = ModelCard(card).data
            assert data.license == "mit" and set(data.to_dict()) >= {"model-index", "tags"}
            assert "<" not in below(card), text
    finally:
        write_json(run / "config.json", config)


@pytest.mark.parametrize("text", [text for text in WRITABLE if "\x00" not in text and len(text) < 200])
def test_comments_of_a_yaml_file_are_comments(text, tmp_path):
    (tmp_path / "run.yaml").write_text(yaml_text({"data": {"path": text}}, f"made by {text}\n{text}"))
    assert read_yaml(tmp_path / "run.yaml") == {"data": {"path": text}}
    lines = (tmp_path / "run.yaml").read_text().split("\n")
    assert yaml.safe_load("\n".join(line for line in lines if not line.startswith("#"))) == {"data": {"path": text}}


def test_a_benchmark_s_table_is_one_table(run):
    result = {"validation": {"ndcg@10": 0.5}, "test": {"ndcg@10": 0.5}, "seed": 0}
    result["validation_users"] = None
    result["breakdown"] = {name: {"targets": 3.0, "ndcg@10": 0.1} for name in ("warm", "cold")}
    for text in HOSTILE:
        corpus = replace(seqmm.synthetic_corpus(**SMALL), name=text)
        evaluator = seqmm.Evaluator(corpus, "test", ks=(10,), metrics=("ndcg",))
        rows = [Row(label, [result], {"ndcg@10": __import__("numpy").ones((1, 4))}) for label in (text, "b")]
        table, _ = report(rows, [], evaluator, "ndcg@10")
        assert structure(table)[0] == "#" and structure(table).count("#") == 1 and "<" not in table, text
        assert len({line for line in structure(table) if "columns" in line}) == 2, text


def test_what_a_recipe_prints_steers_no_terminal(monkeypatch, capsys):
    def main() -> None:
        for text in HOSTILE:
            print(f"{text}\tx")
        raise ValueError("wrong: \u202e\n" + "; ".join(HOSTILE))

    monkeypatch.setattr(sys, "argv", ["recipe"])
    before = sys.stdout
    with pytest.raises(SystemExit):
        run_recipe(main)
    assert sys.stdout is before
    out, err = capsys.readouterr()
    assert out and err and not steers(out.replace("\t", "")) and not steers(err)
    assert "\\u001b[2J" in out and "\\u202e" in err


def test_a_guarded_stream_is_otherwise_the_stream():
    stream = io.StringIO()
    plain = PlainLines(stream)
    print("a\x1bb", file=plain, flush=True)
    assert stream.getvalue() == "a\\u001bb\n" and plain.getvalue() == stream.getvalue()


# -- links -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["README.md", "corpus.json", "items/items.parquet", "items", "leave_one_out", "text", "text/features.json",
             "text/more.parquet", "LICENSE", "a_vocabulary.txt"]
)  # fmt: skip
def test_no_link_leads_out_of_a_corpus(name, tmp_path):
    folder, outside = tmp_path / "corpus", tmp_path / "secret"
    seqmm.synthetic_corpus(**SMALL).save(folder)
    place = folder / name
    if place.exists():
        place.rename(outside)
    else:
        outside.write_text("secret")
    place.symlink_to(outside)
    with pytest.raises(ValueError, match=rf"{re.escape(str(place))}.* is a link to .*secret.*nothing is published"):
        plan_corpus(folder, "org/x", "mit")


@pytest.mark.parametrize(
    "name", ["README.md", "config.json", "metrics.json", "model.safetensors", "run.yaml", "LICENSE"]
)
def test_no_link_leads_out_of_a_run(name, run, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    outside = tmp_path / "secret"
    (folder / name).rename(outside) if (folder / name).exists() else outside.write_text("secret")
    (folder / name).symlink_to(outside)
    with pytest.raises(ValueError, match=rf"{name} is a link to .*secret"):
        plan_model(folder, "org/x", "mit")


def test_links_inside_are_followed_but_not_to_what_is_hidden(tmp_path):
    folder = tmp_path / "corpus"
    seqmm.synthetic_corpus(**SMALL).save(folder)
    (folder / "parts").mkdir()
    (folder / "items" / "items.parquet").rename(folder / "parts" / "items.parquet")
    (folder / "items" / "items.parquet").symlink_to("../parts/items.parquet")
    assert "items/items.parquet" in plan_corpus(folder, "org/x", "mit").files
    (folder / ".env").write_text("TOKEN=1")
    (folder / "LICENSE").symlink_to(".env")
    with pytest.raises(ValueError, match=r"LICENSE is a link to .*\.env"):
        plan_corpus(folder, "org/x", "mit")


def test_only_what_a_corpus_and_a_run_hold_goes_up(run, tmp_path):
    folder = tmp_path / "corpus"
    seqmm.synthetic_corpus(**SMALL).save(folder)
    strange = [
        ".env", ".git/config", ".cache/x", ".x_vocabulary.txt", "text/.features.json", "text/notes.txt",
        "text/credentials.json", "text/__pycache__/x.pyc", "items/extra.parquet", "leave_one_out/extra.parquet",
        "raw/x.parquet", "checkpoint.pkl", ".extract/text/000001.parquet",
    ]  # fmt: skip
    for name in strange:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret")
    upload = plan_corpus(folder, "org/x", "mit")
    assert not set(strange) & set(upload.files) and set(strange) <= set(upload.left_out)
    (run / ".env").write_text("secret")
    try:
        files = plan_model(run, "org/x", "mit").files
    finally:
        (run / ".env").unlink()
    assert set(files) == {"README.md", "config.json", "metrics.json", "model.safetensors", "run.yaml"}


def test_a_damaged_checkpoint_is_not_published(run, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(run, tmp_path / "copy")
    file = tmp_path / "copy" / "model.safetensors"
    save_file({"item.weight": load_file(file)["item.weight"].clone()}, file)
    with pytest.raises(ValueError, match=r"lacks user\.weight"):
        plan_model(tmp_path / "copy", "org/x", "mit")
