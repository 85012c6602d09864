"""What is written is run: every ``>>>`` of the package, the Python of the pages, the recipes' command lines."""

from __future__ import annotations

import argparse
import contextlib
import doctest
import importlib
import io
import json
import os
import re
import runpy
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

import seqmm
from tests.standin_hub import Client

PACKAGE = Path(seqmm.__file__).parent
REPOSITORY = PACKAGE.parent
PAGES = [file for file in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))) if file.is_file()]
COMMAND = re.compile(r"^\s*(?:@?\$\(LAUNCH\)|accelerate launch|python|\$\(BIN\)/python|seqmm)\s.*")


@pytest.fixture
def client(hub, tmp_path):
    """A process of its own: what examples register, import and write is nobody else's; the Hub is the stand-in."""
    environment = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    with Client(hub, tmp_path / "home", **environment) as process:
        process.call(os.chdir, tmp_path)
        yield process


# -- every >>> ---------------------------------------------------------------------------------------------------------


def modules() -> list[str]:
    files = [file for file in sorted(PACKAGE.rglob("*.py")) if ">>> " in file.read_text(encoding="utf-8")]
    names = [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def examples_of(module: str) -> tuple[int, str]:
    """How many examples were run, and what went wrong."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said = io.StringIO()
    for test in finder.find(importlib.import_module(module), module):
        runner.run(test, out=said.write)
    return runner.tries, said.getvalue()


def test_every_example_of_the_package(client):
    assert len(modules()) >= 15
    failed = {}
    for module in modules():
        tries, said = client.call(examples_of, module)
        written = (REPOSITORY / Path(*module.split("."))).with_suffix(".py")
        text = written.read_text(encoding="utf-8") if written.is_file() else ""
        assert tries == len(re.findall(r"^ *>>> ", text, re.M)), f"{module}: an example that is not run"
        assert "doctest: +SKIP" not in text, f"{module}: an example is skipped"
        if said:
            failed[module] = said
    assert not failed, "\n".join(failed.values())


# -- README and docs ---------------------------------------------------------------------------------------------------


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def publish_what_readme_names() -> None:
    """The corpus and the model that README loads from the Hub."""
    corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)
    corpus.save("corpora/mine")
    seqmm.publish_corpus("corpora/mine", "org/mine", license="cc-by-4.0")
    model = seqmm.make_model("sasrecm", replace(corpus, features={"text": corpus.features["text"]}), hidden_size=8)
    model.save_pretrained("runs/finetuned")
    import huggingface_hub

    huggingface_hub.create_repo("org/finetuned")
    huggingface_hub.upload_folder(repo_id="org/finetuned", folder_path="runs/finetuned")


def run_block(text: str) -> tuple[str, str]:
    """What the block printed, and the error if there was one."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        try:
            exec(compile(text, "<block>", "exec"), {"__name__": "__main__"})
        except Exception as error:
            return shown.getvalue(), f"{type(error).__name__}: {error}\n{text}"
    return shown.getvalue(), ""


def twelve_lines() -> str:
    marked = re.search(r"<!-- twelve lines: begin.*?twelve lines: end -->", PAGES[0].read_text(encoding="utf-8"), re.S)
    assert marked is not None
    (block,) = re.findall(r"^```python\n(.*?)^```$", marked[0], re.M | re.S)
    return block


@pytest.mark.slow
def test_twelve_lines_from_a_data_frame_to_titles_twice(tmp_path, hub):
    block, shown = twelve_lines(), []
    assert len([line for line in block.splitlines() if line.strip()]) <= 12
    for turn in ("once", "again"):
        (tmp_path / turn).mkdir()
        with Client(hub, tmp_path / "home", OMP_NUM_THREADS="1") as process:
            process.call(os.chdir, tmp_path / turn)
            out, error = process.call(run_block, block)
        assert not error, error
        shown.append(out.splitlines()[-2:])
    assert shown[0] == shown[1], "two runs are equal"
    assert len(re.findall(r"'Song no\. \d+'", shown[0][1])) == 3 and "'recall@5'" in shown[0][0]
    weights = [(tmp_path / turn / "runs/songs/model.safetensors").read_bytes() for turn in ("once", "again")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_python_of_the_pages(client):
    client.call(publish_what_readme_names)
    found = [(page.name, block) for page in PAGES for block in blocks(page)]
    assert found
    for page, block in found:
        _, error = client.call(run_block, block)
        assert not error, f"{page}: {error}"


# -- command lines -----------------------------------------------------------------------------------------------------


class Parsed(BaseException):
    """The command line was read."""


def commands(text: str) -> list[list[str]]:
    """``[recipe's file, argument, …]`` of each command line of a text; a backslash goes on in the next line."""
    found = []
    for line in re.sub(r"\\\\?\n", " ", text).splitlines():
        if not COMMAND.match(line):
            continue
        line = re.split(r"\s{2,}[(#]|\s#|`", line.strip())[0]
        line = line.replace("$(RUNS)", "runs/quickstart").replace("$(CONFIGS)", "recipes/configs")
        line = line.replace("--config …", "--config recipes/configs/lightgcn/movielens.yaml")
        words = [word for word in shlex.split(line) if word not in ("…", "...")]
        if words[0] == "seqmm":
            words = [f"recipes/{words[1]}.py", *words[2:]]
        place = next(
            (n for n, word in enumerate(words) if re.fullmatch(r"(recipes|tokenized/\w+)/\w+\.py", word)), None
        )
        if place is not None:
            found.append(words[place:])
    return found


def shown_commands() -> list[tuple[str, list[str]]]:
    texts = {file.name: file for file in (*PAGES, REPOSITORY / "Makefile", REPOSITORY / "CONTRIBUTING.md")}
    texts |= {f"{file.parent.name}/{file.name}": file for file in sorted((REPOSITORY / "recipes").glob("*.py"))}
    texts |= {f"{file.parent.name}/{file.name}": file for file in sorted((REPOSITORY / "tokenized").glob("*/*.md"))}
    found = []
    for name, file in texts.items():
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".py":
            text = text.split('"""')[1]
        found += [(f"{name}: {shlex.join(words)}", words) for words in commands(text)]
    return list({label: (label, words) for label, words in found}.values())


SHOWN = shown_commands()


@pytest.mark.parametrize(("label", "words"), SHOWN, ids=[label for label, _ in SHOWN])
def test_command_lines_parse(label, words, monkeypatch, capsys):
    """The recipe reads the line and is stopped there: every flag exists, every value is of its type."""
    import tyro

    read, read_known = tyro.cli, argparse.ArgumentParser.parse_known_args

    def parse_only(*args, **kwargs):
        read(*args, **kwargs)
        raise Parsed

    def parse_known(*args, **kwargs):  # speed.py's; what it leaves is read by tyro
        known, rest = read_known(*args, **kwargs)
        if rest:
            return known, rest
        raise Parsed

    script = REPOSITORY / words[0]
    assert script.is_file(), f"{label}: no such recipe"
    for word in words[1:]:
        for one in expanded(word):
            if one.startswith(("recipes/", "tokenized/")) and one.endswith((".py", ".yaml")):
                assert (REPOSITORY / one).is_file(), f"{label}: no file {one}"
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(tyro, "cli", parse_only)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known)
    monkeypatch.setattr(sys, "argv", [str(script), *(one for word in words[1:] for one in expanded(word))])
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path, str(REPOSITORY / "tests" / "examples")])
    try:
        with pytest.raises(Parsed):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit:
        pytest.fail(f"{label}\n{capsys.readouterr().err[-2000:]}")


def expanded(word: str) -> list[str]:
    """``a{b,c}d`` as a shell expands it."""
    found = re.match(r"(.*)\{([^{}]*,[^{}]*)\}(.*)", word)
    return [word] if found is None else [found[1] + part + found[3] for part in found[2].split(",")]


def test_every_recipe_shows_a_command():
    for file in sorted((REPOSITORY / "recipes").glob("*.py")):
        assert any(words[0] == f"recipes/{file.name}" for _, words in SHOWN), f"{file.name}: --help shows no example"


# -- those that run on tiny data ---------------------------------------------------------------------------------------


def recipe(words: list[str]) -> str:
    shown = io.StringIO()
    script = REPOSITORY / words[0]
    with mock.patch.object(sys, "argv", [str(script), *words[1:]]), contextlib.redirect_stdout(shown):
        runpy.run_path(str(script), run_name="__main__")
    return shown.getvalue()


def examples(name: str) -> list[list[str]]:
    text = (REPOSITORY / "recipes" / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]
    return [words for words in commands(text) if words[0] == f"recipes/{name}.py"]


def test_score_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.csv").write_text("user_id,item_id\nu1,c\nu2,c\n")
    Path("test.csv").write_text("user_id,item_id\nu1,a\nu2,b\n")
    Path("lists.csv").write_text("user,item,rank\nu1,a,1\nu1,b,2\nu2,a,1\nu2,b,2\n")
    Path("lists.jsonl").write_text('{"user": "u1", "items": ["a"]}\n{"user": "u2", "items": ["a", "b"]}\n')
    Path("test.tsv").write_text("customer\tsku\nu1\ta\nu2\tb\n")
    Path("lists.tsv").write_text("customer\tsku\tprediction\nu1\ta\t0.9\nu1\tb\t0.1\nu2\ta\t0.7\nu2\tb\t0.6\n")
    ran = 0
    for words in examples("score"):
        if "tokenized/movielens/ml-100k" not in words:  # against a corpus: tests/evaluation/test_lists.py
            assert re.search(r"^recall +1\.0000", recipe(words), re.M)
            ran += 1
    assert ran >= 3


def test_recommend_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = seqmm.synthetic_corpus(num_users=50, num_items=60)
    users, items = tuple(map(str, range(50))), tuple(map(str, (172, 181, *range(58))))
    features = {"text_vector": whole.features["text_vector"]}
    corpus = replace(whole, user_ids=users, item_ids=items, features=features)
    corpus.save("corpus")
    small = {"hidden_size": 16, "max_length": 6, "num_layers": 1, "num_heads": 2, "inner_size": 16}
    for run, options in (("runs/quickstart/finetune", {}), ("runs/content", {"use_ids": False})):
        seqmm.make_model("sasrecm", corpus, **small, **options).save_pretrained(run)
        Path(run, "run.yaml").write_text("data: {path: corpus}")
    vector = corpus.features["text_vector"].values[0].tolist()
    Path("new.jsonl").write_text(json.dumps({"id": "x1", "title": "a new one", "text_vector": vector}))
    for words in examples("recommend"):
        shown = recipe(words)
        assert len(re.findall(r"^ +\d+ +-?\d+\.\d{4}", shown, re.M)) >= (1 if "new.jsonl" in words else 5), shown
        assert ("a new one" in shown) == ("new.jsonl" in words)
