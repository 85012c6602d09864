"""The plan of the house: floors, no circles, nothing private across folders, rooms of a readable size."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

FLOORS = [
    {"random", "distributed", "files", "foreign", "leftovers", "parsing", "schema", "names", "checks", "signals"},
    {"options", "registry", "flags"},
    {"arguments", "hub"},
    {"data"},
    {"graphs", "nn"},
    {"losses"},
    {"features"},
    {"building"},
    {"models"},
    {"evaluation"},
    {"publishing"},
    {"training"},
    {"run"},
    {"bench"},
    {"serving"},
    {"cli"},
]
"""Lowest first. A folder (or file) of the package imports from its own floor and from those below it."""
APART = [("training", "evaluation"), ("evaluation", "training")]
"""Rooms that do not know each other although the floors would allow it."""
LONG_FILES = {"recipes.speed": "one tool with three measurements (an epoch, a step of each model, primitives)"}
LONG_FUNCTIONS: dict[str, str] = {}
"""Exceptions from 450 lines a file and 60 a function -> the reason."""


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def modules() -> dict[str, Path]:
    package = REPOSITORY / "seqmm"
    return {
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): file
        for file in sorted(package.rglob("*.py"))
    }


def typing_only(file: Path) -> set[int]:
    """Nodes below ``if TYPE_CHECKING:``, which are no imports at run time."""
    guards = [n for n in ast.walk(tree(file)) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    return {id(node) for guard in guards for node in ast.walk(guard)}


def imports(name: str, known: dict[str, Path]) -> list[tuple[ast.stmt, str]]:
    """``(statement, module of ours)`` of every import of a module, those inside functions included."""
    skip = typing_only(known[name])
    found: list[tuple[ast.stmt, str]] = []
    for node in ast.walk(tree(known[name])):
        if id(node) in skip:
            continue
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [target if target in known else str(node.module) for target in targets]
        else:
            continue
        found += [(node, target) for target in targets if target in known and target not in (name, "seqmm")]
    return found


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def floor(module: str) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if room(module) in rooms]
    assert found, f"{module} stands on no floor: name {room(module)!r} in FLOORS"
    return found[0]


def test_no_import_goes_to_a_higher_floor():
    known = modules()
    wrong = [
        f"{name}:{node.lineno} imports {target}"
        for name in known
        if room(name)
        for node, target in imports(name, known)
        if floor(target) > floor(name) or (room(name), room(target)) in APART
    ]
    assert not wrong, wrong


def test_no_modules_import_each_other_in_a_circle():
    known = modules()
    edges = {name: {target for _, target in imports(name, known)} for name in known}
    done: set[str] = set()
    for start in edges:  # depth first; a module met again on the way down closes a circle
        path: list[str] = []

        def visit(name: str, path: list[str] = path) -> None:
            assert name not in path, " -> ".join([*path[path.index(name) :], name])
            if name in done:
                return
            path.append(name)
            for target in sorted(edges[name]):
                visit(target)
            path.pop()
            done.add(name)

        visit(start)


def test_the_circle_finder_finds_one(monkeypatch, tmp_path):
    for name, text in (("a", "def f():\n    from seqmm.b import y\n"), ("b", "from seqmm.a import f\n")):
        (tmp_path / f"{name}.py").write_text(text)
    known = {"seqmm.a": tmp_path / "a.py", "seqmm.b": tmp_path / "b.py"}
    monkeypatch.setitem(globals(), "modules", lambda: known)
    with pytest.raises(AssertionError, match="seqmm.a -> seqmm.b -> seqmm.a"):
        test_no_modules_import_each_other_in_a_circle()


def test_nothing_private_is_used_from_another_folder():
    known = modules()
    wrong = [
        f"{name}:{node.lineno} takes {node.module}.{alias.name}"
        for name, file in known.items()
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seqmm.")
        for alias in node.names
        if alias.name.startswith("_") and str(node.module).rpartition(".")[0] != name.rpartition(".")[0]
    ]
    assert not wrong, wrong


def test_the_recipes_use_nothing_private():
    files = [*(REPOSITORY / "recipes").glob("*.py"), *(REPOSITORY / "tokenized").glob("*/build.py")]
    wrong = []
    for file in files:
        for node in ast.walk(tree(file)):
            private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
            own = private and isinstance(node.value, ast.Name) and node.value.id == "self"
            if private and not own:
                wrong.append(f"{file.name}:{node.lineno} .{node.attr}")
    assert not wrong, wrong


def test_files_and_functions_are_of_a_readable_size():
    large, long = [], []
    recipes = {f"recipes.{file.stem}": file for file in (REPOSITORY / "recipes").glob("*.py")}
    for name, file in (modules() | recipes).items():
        lines = file.read_text(encoding="utf-8").count("\n")
        if lines > 450 and name not in LONG_FILES:
            large.append(f"{name}: {lines} lines")
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                if size > 60 and f"{name}.{node.name}" not in LONG_FUNCTIONS:
                    long.append(f"{name}.{node.name}: {size} lines")
    assert not large and not long, [*large, *long]


def test_every_public_class_says_what_it_is():
    silent = [
        f"{name}.{node.name}"
        for name, file in modules().items()
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node)
    ]
    assert not silent, silent


def test_imports_stand_at_the_top():
    """What is heavy (torch, polars, transformers) is imported where it is used; what is ours is not."""
    known = modules()
    late = []
    for name, file in known.items():
        functions = [n for n in ast.walk(tree(file)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        inside = {id(node) for function in functions for node in ast.walk(function)}
        late += [f"{name}:{node.lineno} {target}" for node, target in imports(name, known) if id(node) in inside]
    assert not late, late
