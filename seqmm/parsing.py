"""Text to plain values: JSON and YAML of files that anybody may have written, refused in one line.

What the parsers let through and nobody means is refused here: a key that stands twice (of which they keep the last),
nesting that ends in a RecursionError, aliases that unfold to millions of values, numbers that no machine word holds.
The line says where in the text; who reads a file (:mod:`seqmm.files`) names it.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

DEEPEST = 50
"""Levels of lists and mappings inside each other."""
MOST_YAML_VALUES = 100_000
"""Values of a YAML file, those that an alias repeats counted each time."""


def parse_json(text: str) -> Any:
    """A JSON text's value; NaN and Infinity are read as the floats they are, for whoever checks values to refuse.

    Raises:
        ValueError: no JSON, a key twice in one object, a whole number of more than 1,000 digits, nesting below
            ``DEEPEST``; in one line.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once_each, parse_int=_whole_number)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError:
        raise ValueError(_too_deep()) from None
    _check_depth(value)
    return value


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice; keep one")
    return found


def _whole_number(digits: str) -> int:
    if len(digits) > 1000:  # beyond some thousand digits Python refuses on its own
        raise ValueError(f"the whole number {digits[:20]}… has {len(digits):,} digits")
    return int(digits)


def _check_depth(value: Any) -> None:
    """Level by level, since a walk that calls itself would end where the parser did not."""
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(_too_deep())
        level = [entry for one in level for entry in (one.values() if isinstance(one, dict) else one)]


def _too_deep() -> str:
    return f"lists and mappings lie in each other more than {DEEPEST} deep"


def parse_yaml(text: str) -> Any:
    """A YAML text's value: mappings with text keys, lists, texts, numbers, true and false; None for an empty text.

    A key is the text that stands there (``1``, ``no`` and ``2020-01-01`` are "1", "no" and "2020-01-01"), a date is
    text, and tags that make anything else are unknown.

    Raises:
        ValueError: no YAML, more than one document, a key twice in one mapping, nesting below ``DEEPEST``, aliases that
            unfold to more than ``MOST_YAML_VALUES``; in one line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        problem = str(error.problem or error.context)
        if problem.startswith("but "):  # the sentence began in the context
            problem = f"{error.context} {problem}"
        raise ValueError(f"{place}{problem}") from error
    except yaml.reader.ReaderError as error:
        code = f"U+{error.character:04X}"
        raise ValueError(f"character {error.position + 1} is {code}, which no YAML text may hold") from error
    except RecursionError:
        raise ValueError(_too_deep()) from None


TAG = "tag:yaml.org,2002:"
KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
"""Tags whose values are plain."""


class _Loader(yaml.SafeLoader):
    """Counts what it composes, before anything is made of it."""

    yaml_constructors = {f"{TAG}{kind}": yaml.SafeLoader.yaml_constructors[f"{TAG}{kind}"] for kind in KINDS}
    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag != f"{TAG}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: Any):
        super().__init__(stream)
        self.depth = 0
        self.sizes: dict[int, int] = {}

    def refuse(self, problem: str, mark: Any) -> None:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        self.depth += 1
        if self.depth > DEEPEST + 1:  # the innermost may hold plain values
            self.refuse(_too_deep(), event.start_mark)
        node: Any = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self.sizes:
            self.refuse(f"the alias *{event.anchor} stands inside what it repeats", event.start_mark)
        if id(node) not in self.sizes:
            self.sizes[id(node)] = size = 1 + sum(self.sizes[id(inner)] for inner in _inner(node))
            if size > MOST_YAML_VALUES:
                self.refuse(f"it unfolds to more than {MOST_YAML_VALUES:,} values", node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.refuse("a key must be a text", key.start_mark)
            if key.tag != f"{TAG}merge":
                key.tag = f"{TAG}str"
            line = key.start_mark.line + 1
            if key.value in lines:
                problem = f"{key.value!r} stands twice, in lines {lines[key.value]} and {line}; keep one"
                self.refuse(problem, key.start_mark)
            lines[key.value] = line
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        digits = node.value if node.tag == f"{TAG}int" else ""
        if len(digits) > 70:  # of base 2; beyond some thousand digits Python refuses on its own
            self.refuse(f"the whole number {digits[:20]}… is too large", node.start_mark)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError):  # of a tag that says what the text is not, or "0x"
            self.refuse(f"{node.value[:40]!r} is no {node.tag.rpartition(':')[2]}", node.start_mark)
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            self.refuse(f"the whole number {digits[:20]}… is too large", node.start_mark)
        return value

    def construct_undefined(self, node: Any) -> Any:
        self.refuse(f"the tag {node.tag[:80]} is unknown; write plain values", node.start_mark)


def _inner(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


_Loader.yaml_constructors[None] = _Loader.construct_undefined
