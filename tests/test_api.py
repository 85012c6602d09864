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
