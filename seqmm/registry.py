"""Names of models, extractors and sources: registered beside the class, imported when asked for, open to strangers.

Inside the package a class is decorated with :func:`register`; the table of names is derived from the files, so that
asking for the names imports none of them. From outside::

    seqmm.register(MyModel)                      # in Python
    model_type: my_package.toy:Toy               # in one's own YAML file, or as a flag
    [project.entry-points."seqmm.models"]        # in the pyproject.toml of a package that is installed
    toy = "my_package.toy:Toy"

Only what a person wrote in his own settings is imported by its dotted path: a name that stands in a checkpoint or in a
corpus must be registered already.
"""

from __future__ import annotations

import re
import sys
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from seqmm.names import nearest

C = TypeVar("C", bound=type)
_NAME = re.compile(r'^    (?:model_type|name)(?:: ClassVar\[str\])? = "([\w-]+)"', re.M)


class Registry:
    """Classes of one kind by name.

    Args:
        what: they are called in errors: "model_type".
        packages: of ours in which files with ``@register`` define them.
        group: of entry points.
    """

    def __init__(self, what: str, packages: tuple[str, ...], group: str):
        self.what, self.packages, self.group = what, packages, group
        self._classes: dict[str, list[Any]] = {}

    @cached_property
    def _files(self) -> dict[str, str]:
        """Name -> module of the package that defines it, found without importing any."""
        found: dict[str, str] = {}
        for package in self.packages:
            folder = Path(__file__).parent.joinpath(*package.split(".")[1:])
            for file in sorted(folder.glob("*.py")):
                text = file.read_text(encoding="utf-8")
                if re.search(r"^@register$", text, re.M):
                    found |= {name: f"{package}.{file.stem}" for name in _NAME.findall(text)}
        return found

    @cached_property
    def _entry_points(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group=self.group)}

    def names(self) -> list[str]:
        """All names: the package's, those of entry points, and those registered by hand."""
        return list(dict.fromkeys([*self._files, *self._entry_points, *self._classes]))

    def add(self, name: str, cls: Any) -> None:
        """Registers a class; a second one of the same module and name replaces it (a notebook cell run again).

        Raises:
            ValueError: the name belongs to another class.
        """
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"{self.what} {name!r} of {cls.__name__}: use letters, digits, _ and -")
        _check_own_config(cls)
        for place, known in enumerate(self._classes.get(name, [])):
            if (known.__module__, known.__qualname__) == (cls.__module__, cls.__qualname__):
                self._classes[name][place] = cls
                return
        owner, head = self._files.get(name), getattr(cls, "objective", None)
        taken = [
            known
            for known in self._classes.get(name, [])
            if known.__module__ != cls.__module__ or getattr(known, "objective", None) == head
        ]
        if taken or (owner is not None and owner != cls.__module__):
            other = f"{taken[0].__module__}.{taken[0].__qualname__}" if taken else owner
            raise ValueError(f"{self.what} {name!r} is {other}'s already; give {cls.__qualname__} another")
        self._classes.setdefault(name, []).append(cls)

    def classes(self, name: str) -> list[Any]:
        """The classes registered under a name (a two-stage model has two).

        Raises:
            ValueError: an unknown name; the text says the nearest one.
        """
        if name in self._files:
            import_module(self._files[name])
        elif name not in self._classes and name in self._entry_points:
            self.add(name, self._loaded(name))
        if name not in self._classes:
            dotted = " (a class of one's own: seqmm.register in Python, the flag plugin module:Class of a recipe)"
            raise ValueError(f"unknown {self.what} {name!r}{nearest(name, self.names())}{dotted}")
        return self._classes[name]

    def _loaded(self, name: str) -> Any:
        """The class of an entry point, which must have its name."""
        point = self._entry_points[name]
        said = f"entry point {name} = {point.value} ({self.group})"
        if point.dist is not None:
            said += f" of the installed package {point.dist.name}"
        try:
            cls = point.load()
            found = registered_name(cls)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{said} cannot be used: {error}; mend that package or uninstall it") from error
        if found != name:
            raise ValueError(f"{said}: the class' own name is {found!r}; that package must use one name in both places")
        return cls

    def imported(self, place: str) -> str:
        """The name of a class given as ``module:Class`` by the user's own settings (:func:`plug_in`).

        A plain name is returned as it is.

        Raises:
            ValueError: no such module or class, or it is of another kind.
        """
        if ":" not in place:
            return place
        cls = plug_in(place, self.what)
        if cls.registry is not self:
            raise ValueError(f"{self.what} {place}: it is a class of another kind, {cls.registry.what}")
        return registered_name(cls)


def plug_in(place: str, said: str = "--plugin") -> Any:
    """Imports and registers a class given as ``module:Class``; modules of the working directory are found, too.

    Call it with what a person wrote in his own settings or flags, never with what a downloaded file says.

    Args:
        place: "my_package.toy:Toy".
        said: what the place was given as, for errors.

    Raises:
        ValueError: no such module or class, or it is neither a model nor an extractor nor a source.
    """
    module, _, attribute = place.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # a recipe's own folder is what Python puts there
    try:
        cls = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{said} {place}: {error}; give module:Class of what can be imported here") from error
    try:
        return register(cls)
    except ValueError as error:
        raise ValueError(f"{said} {place}: {error}") from error


def register(cls: C) -> C:
    """Registers a model, an extractor or a source under its own name; a decorator, or called with the class.

    Raises:
        ValueError: it is none of these, or its name is taken.

    >>> import seqmm
    >>> from seqmm.models.collaborative.popularity import Popularity, PopularityConfig
    >>> class EvenConfig(PopularityConfig):
    ...     model_type = "even"
    >>> @seqmm.register
    ... class Even(Popularity):
    ...     config_class = EvenConfig
    >>> seqmm.make_model("even", seqmm.synthetic_corpus(num_users=60, num_items=40)).config.model_type
    'even'
    """
    registry = getattr(cls, "registry", None)
    if not isinstance(registry, Registry):
        raise ValueError(
            f"{cls!r} cannot be registered: make it a subclass of seqmm.Recommender, seqmm.Extractor or seqmm.Source"
        )
    registry.add(registered_name(cls), cls)
    return cls


def registered_name(cls: Any) -> str:
    """A model's ``config_class.model_type``, an extractor's or a source's ``name``."""
    config = getattr(cls, "config_class", None)
    return str(cls.name if config is None else config.model_type)


def _check_own_config(cls: Any) -> None:
    """Raises ValueError for a model from outside that has its name of a config of ours."""
    config = getattr(cls, "config_class", None)
    if config is None or cls.__module__.startswith("seqmm."):
        return
    owner = next(base for base in config.__mro__ if "model_type" in vars(base))
    if owner.__module__.startswith("seqmm."):
        raise ValueError(
            f"{cls.__qualname__} has no model_type of its own, only {owner.__name__}'s {owner.model_type!r}; give it "
            f"config_class = a subclass of {config.__name__} with another model_type"
        )


MODELS = Registry("model_type", ("seqmm.models.collaborative", "seqmm.models.sequential"), "seqmm.models")
EXTRACTORS = Registry("extractor", ("seqmm.features.extractors",), "seqmm.extractors")
SOURCES = Registry("source", ("seqmm.data.sources",), "seqmm.sources")
