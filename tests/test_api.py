"""The public names: few, lazy, documented; what a script does with them; what it is told when it is wrong."""

import ast
import inspect
import subprocess
import sys

import pytest

import seqmm

NAMES = [name for name in seqmm.__all__ if name != "__version__"]


def test_thirty_names_at_most():
    assert len(NAMES) <= 30 and len(set(NAMES)) == len(NAMES)
    assert set(NAMES) < set(dir(seqmm))
    with pytest.raises(AttributeError, match="no attribute 'evaluat'; did you mean 'evaluate'"):
        _ = seqmm.evaluat


def test_type_checkers_see_the_names_that_are_there(repository):
    tree = ast.parse((repository / "seqmm" / "__init__.py").read_text())
    seen = {
        alias.asname: f"{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }
    assert seen == {name: seqmm._NAMES[name] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_says_what_it_is(name):
    text = inspect.getdoc(getattr(seqmm, name))
    assert text and text.splitlines()[0].endswith("."), "the first line is a sentence"
    assert len(text.splitlines()) < 3 or not text.splitlines()[1], "and stands alone"
    assert ">>> " in text, "a runnable example"


def test_import_is_light():
    heavy = "('torch', 'transformers', 'datasets', 'accelerate', 'polars', 'numpy')"
    code = f"import sys, seqmm; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


CORPUS = "corpus = seqmm.synthetic_corpus(num_users=60, num_items=40)\n"
FAULTY = {
    'seqmm.make_model("sasrec", corpus, hiden_size=8)': "did you mean 'hidden_size'",
    'seqmm.make_model("lightgc", corpus)': "did you mean 'lightgcn'",
    'seqmm.make_model("sasrec", corpus, loss="sofmax")': "sofmax",
    'seqmm.make_model("bpr", corpus, hidden_size="wide")': "hidden_size",
    'seqmm.make_model("bpr", corpus, hidden_size=0)': "hidden_size is 0",
    'seqmm.TrainArguments(schedule="linear")': "schedule is 'linear'",
    "seqmm.TrainArguments(epochs=2.5)": "epochs is 2.5",
    "seqmm.TrainArguments(epoch=3)": "epoch",
    "seqmm.TrainArguments(learning_rate=float('nan'))": "learning_rate is nan",
    'seqmm.EvalArguments(mask="seen")': "mask is 'seen'",
    'seqmm.synthetic_corpus(num_users=60, num_items=40, protocol="nosuch")': "nosuch",
    'seqmm.evaluate(seqmm.make_model("bpr", corpus), corpus, metrics=["recal"])': "did you mean 'recall'",
    'seqmm.evaluate(seqmm.make_model("bpr", corpus), corpus, ks=[41])': "K = 41",
    'seqmm.evaluate(seqmm.make_model("bpr", corpus), corpus, "train")': "validation, test",
    'seqmm.recommend(seqmm.make_model("bpr", corpus), corpus, "nobody")': "no user 'nobody'",
    'seqmm.Index(seqmm.make_model("bpr", corpus), corpus, backend="fais")': "did you mean 'faiss'",
    'seqmm.prepare_corpus({"user": [1], "item_id": [2]})': "user_id",
    'seqmm.prepare_corpus({"user_id": [1], "item_id": [2]}, protocol="nosuch")': "nosuch",
    'seqmm.prepare_corpus({"user_id": [1], "item_id": [2]}, k_cor=2)': "k_core",
}


@pytest.mark.parametrize("statement", FAULTY)
def test_a_faulty_setting_is_an_error_in_the_words_of_python(statement):
    names = {"seqmm": seqmm}
    exec(CORPUS, names)
    with pytest.raises((ValueError, TypeError)) as raised:
        exec(statement, names)
    said = str(raised.value)
    assert FAULTY[statement] in said
    assert "--" not in said, "a flag, which this reader never typed"


@pytest.mark.slow
def test_type_checkers_refuse_a_wrong_choice(tmp_path, repository):
    file = tmp_path / "script.py"
    file.write_text(
        "import seqmm\n"
        'seqmm.load_corpus("corpora/mine", protocol="ratio")\n'
        'seqmm.load_corpus("corpora/mine", protocol="nosuch")\n'
        'seqmm.Evaluator(seqmm.synthetic_corpus(), "test", mask="seen")\n'
        'seqmm.synthetic_corpus(protocol="nosuch")\n'
    )
    options = ["--strict", "--ignore-missing-imports", "--follow-imports=silent", "--no-error-summary"]
    command = [sys.executable, "-m", "mypy", *options, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository, timeout=900)
    wrong = [line for line in done.stdout.splitlines() if "error:" in line]
    assert [int(line.split(":")[1]) for line in wrong] == [3, 4, 5], done.stdout + done.stderr
    assert all("arg-type" in line for line in wrong)
