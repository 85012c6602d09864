"""Many runs in one YAML file: named variants, and a sweep whose combinations are named by their values.

A variant is a row of a paper's ablation table, what it changes in the file and nothing else::

    variants:
      M1: {model.align_levels: []}
      without_ids: {model.use_ids: false}
      without_mixup: {train.init_from: recipes/configs/msm4sr/movielens.yaml#without_mixup}

A sweep is a list of grids; each combination of a grid's values is a run::

    sweep:
      - {model.num_layers: [1, 2], train.learning_rate: [0.001, 0.0001]}      # "num_layers=1 learning_rate=0.001", …

Both are points: a name and the keys that differ. ``file.yaml#name`` says one wherever a file is named.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from seqmm.names import nearest

ALL = "all"
"""What chooses every variant of a file; no variant may be called so."""
Point = dict[str, Any]
"""``section.key`` -> value, in place of the file's own."""


def reference(place: str) -> tuple[str, str | None]:
    """The file and the variant that ``file.yaml#variant`` names; the variant is None if there is none."""
    found = re.fullmatch(r"(.+\.ya?ml)#(.+)", place)
    return (found[1], found[2]) if found else (place, None)


def is_configuration(place: str) -> bool:
    """Whether a place is a YAML file, with or without ``#variant``, and no folder or Hub repository."""
    return reference(place)[0].endswith((".yaml", ".yml"))


def chosen(values: Mapping[str, Any], variant: str | None, path: object) -> dict[str, Any]:
    """The sections of one run of a file.

    Args:
        values: the file's.
        variant: name of one of its variants, or of a combination of its sweep; None = the file as it stands.
        path: of the file, for errors.

    Raises:
        ValueError: no such variant; a file with a sweep, which is many runs, and none is named; a variant or sweep that
            is none (:func:`variants_of`, :func:`sweep_of`).
    """
    points = variants_of(values, path) | (swept := sweep_of(values, path))
    if variant is not None:
        if variant not in points:
            has_none = "; it has no variants" if not points else nearest(variant, points)
            raise ValueError(f"{path}: there is no variant {variant!r}{has_none}")
        return merged(values, points[variant])
    if swept:
        raise ValueError(
            f"{path} is a sweep, many runs: give it to recipes/benchmark.py --runs, or name one: "
            f"--variant {next(iter(swept))!r}"
        )
    return merged(values, {})


def variants_of(values: Mapping[str, Any], path: object) -> dict[str, Point]:
    """The variants of a file by name.

    Raises:
        ValueError: variants of another form, one that changes nothing, two that are the same; the text names the file.
    """
    written = values.get("variants", {})
    if not isinstance(written, dict):
        raise ValueError(f"{path}: variants must be a mapping of names, each to section.key: value; it is {written!r}")
    points = {str(name): point for name, point in written.items()}
    for name, point in points.items():
        if not isinstance(point, dict) or not all(_is_key(key) for key in point):
            raise ValueError(f"{path}: variant {name} must be a mapping of section.key to a value; it is {point!r}")
        if name == ALL:
            raise ValueError(f"{path}: no variant can be called {ALL}, which chooses every one")
        if merged(values, point) == merged(values, {}):
            raise ValueError(f"{path}: variant {name} changes nothing, the file has these values: {point!r}")
    _refuse_twins(values, points, path)
    return points


def sweep_of(values: Mapping[str, Any], path: object) -> dict[str, Point]:
    """The combinations of a file's sweep by name; none if it has no sweep.

    Raises:
        ValueError: for a sweep of another form, or two equal runs.
    """
    if "sweep" not in values:
        return {}
    grids = values["sweep"]
    if not isinstance(grids, list) or not grids or not all(_is_grid(grid) for grid in grids):
        raise ValueError(f"{path}: sweep must be a list of grids, each a mapping of section.key to a list of values")
    points: dict[str, Point] = {}
    for grid in grids:
        for combination in itertools.product(*grid.values()):
            point = dict(zip(grid, combination, strict=True))
            name = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in point.items())
            if name in points:
                raise ValueError(f"{path}: the sweep gives {name} twice")
            points[name] = point
    _refuse_twins(values, points, path)
    return points


def merged(values: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """A file's sections with a point's values in place of its own; ``values`` are left as they are."""
    sections = {
        key: dict(section) if isinstance(section, dict) else section
        for key, section in values.items()
        if key not in ("variants", "sweep")
    }
    for key, value in point.items():
        section, _, name = key.partition(".")
        if isinstance(entries := sections.setdefault(section, {}), dict):  # else whoever reads the sections says so
            entries[name] = value
    return sections


def _is_key(key: object) -> bool:
    return isinstance(key, str) and all(key.partition("."))


def _is_grid(grid: object) -> bool:
    if not isinstance(grid, dict) or not grid:
        return False
    return all(_is_key(key) and isinstance(each, list) and each for key, each in grid.items())


def _refuse_twins(values: Mapping[str, Any], points: Mapping[str, Point], path: object) -> None:
    for first, second in itertools.combinations(points, 2):
        if merged(values, points[first]) == merged(values, points[second]):
            raise ValueError(f"{path}: {first!r} and {second!r} are the same run: {points[second]!r}; leave one out")
