"""The command that makes a corpus of any source: its flags are the source's options and those of every corpus."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqmm.building.build import build, count_images, download, next_steps
from seqmm.building.options import CorpusOptions
from seqmm.data.preparation import Treatment
from seqmm.data.sources.base import Source, SourceData, sensible_protocols
from seqmm.flags import in_flags, made_by_flags, parse_flags
from seqmm.names import pairs
from seqmm.options import Options, option_fields
from seqmm.registry import SOURCES


def prepare_command(source: str | None = None, *, description: str = "", parent: str = "corpora") -> None:
    """Reads the command line, makes the corpus and prints what came out.

    Args:
        source: name of the source; None = the first word of the command line, a registered name or ``module:Class``.
        description: shown by ``--help``, without a source before the list of all.
        parent: the corpus' folder goes into it unless ``--output`` says where.

    Raises:
        ValueError, OSError: what the source and :func:`~seqmm.building.build.build` refuse.
    """
    words, program = sys.argv[1:], Path(sys.argv[0]).name
    shown = description
    if source is None:
        if not words or words[0] in ("--help", "-h"):
            print("\n".join([description.strip(), "", *_sources(program)]))
            sys.exit(0 if words else 2)
        source, words = words[0], words[1:]
        program, shown = f"{program} {source}", ""
    cls: type[Source] = SOURCES.classes(SOURCES.imported(source))[0]
    values = parse_flags({"": _flags(cls)}, words, description=shown or cls.__doc__ or "", program=program)[""]
    reader = cls(_made(cls.options_class, values))
    _make(reader, _made(CorpusOptions, values), Path(parent))


def _sources(program: str) -> list[str]:
    names = sorted(SOURCES.names())
    width = max(map(len, names))
    lines = [f"usage: {program} SOURCE [options]", f"       {program} SOURCE --help shows a source's options", ""]
    for name in names:
        said = (SOURCES.classes(name)[0].__doc__ or "").strip().split("\n")[0]
        lines.append(f"  {name:<{width}}  {said}")
    return [*lines, "  module:Class: a source of your own, a subclass of seqmm.Source"]


def _flags(cls: type[Source]) -> type[Options]:
    """The source's options and those of every corpus in one class."""
    common = {each.name for each in option_fields(CorpusOptions)}
    for each in option_fields(cls.options_class):
        if each.name in common:
            raise ValueError(
                f"{cls.__name__}: every corpus has an option {each.name!r}; give the source's another name"
            )
    bases = (CorpusOptions, cls.options_class)  # the source's options come first, since some must be given
    return dataclasses.make_dataclass(cls.options_class.__name__, [], bases=bases, frozen=True)


def _made(cls: type[Options], values: Mapping[str, Any]) -> Any:
    return made_by_flags(cls, {each.name: values[each.name] for each in option_fields(cls)})


def _make(source: Source, options: CorpusOptions, parent: Path) -> None:
    data = source.read()
    urls = options.download_images
    if urls is not None and (data.items is None or options.image_column not in data.items.columns):
        have = (
            "there is no items table" if data.items is None else "it has the columns " + ", ".join(data.items.columns)
        )
        raise ValueError(
            f"--download-images needs a column {options.image_column!r} of URLs in the items table; {have}"
        )
    there = [path for path in data.images if urls is None or path.resolve() != urls.resolve()]
    counts = count_images(there, data.log, data.items) if there else {}
    output = options.output or parent / source.corpus_name()
    built = build(
        data,
        output,
        name=options.name,
        about=source.about(),
        overwrite=options.overwrite,
        say=lambda text: print(in_flags(text)),
        info=source.info() | dict(data.info) | counts,
        **corpus_settings(source, data, options),
    )
    if urls is not None:
        print("\n".join(download(built, urls, options.image_column, options.images_per_item)))
        there.append(urls)
    print("\n".join(next_steps(built, there, options.image_column)))


def corpus_settings(source: Source, data: SourceData, options: CorpusOptions) -> dict[str, Any]:
    """The settings of :func:`~seqmm.building.build.build` that options, the source and the data decide."""
    protocols = options.protocols or data.protocols or sensible_protocols(data.log)
    usual = 0 if "given" in protocols else 5
    if data.k_core is not None:
        usual = data.k_core
    columns = () if data.items is None else data.items.columns
    treatment = {each.name: getattr(options, each.name) for each in option_fields(Treatment)}
    return treatment | {
        "protocols": protocols,
        "k_core": usual if options.k_core is None else options.k_core,
        "drop_untrained": data.drop_untrained if options.drop_untrained is None else options.drop_untrained,
        "tags": [tag for tag in source.tags if tag in columns] if options.tags is None else options.tags,
        "features": _features(data, options),
    }


def _features(data: SourceData, options: CorpusOptions) -> dict[str, tuple[Path, str]]:
    """The source's files of vectors and those of the flags, each with what made it."""
    files = {name: Path(file) for name, file in pairs(options.feature, "--feature").items()}
    sets = {**data.features, **{name: (file, file.name) for name, file in files.items()}}
    for name, encoder in pairs(options.encoder, "--encoder").items():
        if name not in sets:
            raise ValueError(
                f"--encoder {name}=…: no such feature set in --feature, which has: {', '.join(sets) or 'none'}"
            )
        sets[name] = (sets[name][0], encoder)
    return sets
