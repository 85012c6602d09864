"""Extract features of a prepared corpus' items: texts, images, image keywords, fused vectors, audio.

Texts, and the sentences of titles and descriptions, by BERT; the same without any model:

  accelerate launch recipes/extract.py --corpus corpora/mine --features text text_sentences

  python recipes/extract.py --corpus corpora/mine --features text --text-encoder tfidf

Photos named <item id>.jpg (more of an item: <item id>_2.jpg …, or a folder <item id>), in folders or tar files: CLIP's
vectors, and the keywords CLIP sees in them, encoded by the text encoder (MSM4SR); offline, an ImageNet classifier:

  accelerate launch recipes/extract.py --corpus corpora/mine --features image image_keywords --images photos

  python recipes/extract.py --corpus corpora/mine --features image image_keywords --images photos \\
      --image-encoder efficientnet-lite0 --tagger imagenet --text-encoder minilm

Photo and text through a multimodal language model (USERec), sound files, vectors that are already there:

  accelerate launch recipes/extract.py --corpus corpora/mine --features fused --images photos --mllm org/model
  accelerate launch recipes/extract.py --corpus corpora/mine --features audio --audio sounds
  python recipes/extract.py --corpus corpora/mine --vectors image=image_feat.npy text=vectors.parquet

An extractor of one's own, a class in a file beside you (tests/examples/my_extractor.py is one), with its own flags:

  python recipes/extract.py --corpus corpora/mine --features my_extractor:Letters --letters aeiou

On several processes: accelerate launch --multi_gpu --num_processes N recipes/extract.py … (each takes shards of 1,024
items; on several machines, of a folder they share). What was stopped goes on where it was: run the same command again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqmm.cli import run_recipe
from seqmm.flags import flag, flagged, joined, made_by_flags, parse_flags, part
from seqmm.names import EncoderPrecision, Storage, pairs
from seqmm.options import Options, option, option_fields, refuse_idle
from seqmm.registry import EXTRACTORS

if TYPE_CHECKING:
    from seqmm.features.extractor import Extractor


@dataclass(frozen=True)
class ExtractArguments(Options):
    """Flags of every extractor."""

    corpus: Path = option(MISSING, "Folder of a prepared corpus.")
    features: tuple[str, ...] = option(
        (), "What to extract, by the extractors' names or as module:Class; with --help, shows their flags, too."
    )
    vectors: tuple[str, ...] = option(
        (),
        "Feature sets that are there already, name=file: .npy, .safetensors or .pt, row r for row r of the source "
        "items table (or id -> vector), or a table (.parquet, .csv) with a column of ids.",
    )
    vectors_made_by: tuple[str, ...] = option(
        (), "Encoders of --vectors, name=encoder, kept as their provenance; the file's name if absent."
    )
    suffix: str = option("", "Appended to the feature sets' names, so that two encoders' sets can stand side by side.")
    overwrite: bool = option(False, "Replace feature sets of the same names that were made otherwise.")
    storage: Storage = option("float32", "How vectors are stored; they are read as float32.")
    dtype: EncoderPrecision | None = option(
        None, "What encoders compute in; bfloat16 on a GPU, float32 without one, if absent."
    )
    threads: int | None = option(
        None,
        "CPU threads of a process; the cores divided by the processes if absent. A vector's last bits may depend on "
        "it.",
        least=1,
    )


def main() -> None:
    arguments, chosen = read_flags(sys.argv[1:])
    if not chosen and not arguments.vectors:
        raise ValueError("nothing to extract: name some of --features text text_sentences …, or --vectors name=file")

    import torch
    from accelerate import PartialState

    from seqmm.data.store import read_record
    from seqmm.distributed import on_cpu
    from seqmm.features.extract import extract
    from seqmm.features.tools import Tools

    read_record(arguments.corpus)
    state = PartialState(cpu=on_cpu())
    torch.set_num_threads(arguments.threads or max(1, (os.cpu_count() or 1) // state.num_processes))
    if state.is_main_process:
        add_vectors(arguments)
    tools = Tools(arguments.corpus, str(state.device), arguments.dtype)
    for extractor, options in chosen:
        with flagged():
            made = extractor.make(options, tools)
        report = extract(
            arguments.corpus,
            extractor.name + arguments.suffix,
            made,
            dtype=arguments.storage,
            overwrite=arguments.overwrite,
            rank=state.process_index,
            world=state.num_processes,
        )
        print(report.line(), flush=True)


def read_flags(argv: Sequence[str]) -> tuple[ExtractArguments, list[tuple[type[Extractor], Any]]]:
    """The flags that all extractors share, and the extractors that --features names, each with its own.

    Raises:
        ValueError: an extractor that is not known, a flag that is another one's, or one that nothing reads.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--features", nargs="*", default=[])
    places = first.parse_known_args(argv)[0].features
    names = dict.fromkeys(EXTRACTORS.imported(place) for place in places)
    extractors: list[type[Extractor]] = [EXTRACTORS.classes(name)[0] for name in names]
    flags = joined("Flags", [ExtractArguments, *(each.options_class for each in extractors)])
    refuse_others(argv, flags, list(names))
    values = parse_flags({"": flags}, argv, description=f"{__doc__}\n{described(list(names))}")[""]
    arguments = made_by_flags(ExtractArguments, part(ExtractArguments, values))
    chosen = [(each, made_by_flags(each.options_class, part(each.options_class, values))) for each in extractors]
    with flagged():
        refuse_idle([options for _, options in chosen])
    return arguments, chosen


def described(names: Sequence[str]) -> str:
    """The extractors for --help: those that are named, whose flags are shown, or all."""
    said = {name: EXTRACTORS.classes(name)[0].__doc__ or "" for name in names or EXTRACTORS.names()}
    lines = ["  " + name + ": " + text.strip().partition("\n")[0] for name, text in said.items()]
    head = f"Flags of {', '.join(names)} are among those below:" if names else "Extractors, for --features:"
    shown = [] if names else ["--features text --help shows the flags of text, and so on."]
    return "\n".join([head, *lines, *shown])


def refuse_others(argv: Sequence[str], flags: type, names: Sequence[str]) -> None:
    """Refuses a flag of an extractor that --features does not name; what no extractor has is the parser's matter."""
    known = {each.name for each in option_fields(flags)}
    given = [word.partition("=")[0].removeprefix("--").replace("-", "_") for word in argv if word.startswith("--")]
    for name in given:
        owners = [] if name in known else [owner for owner in EXTRACTORS.names() if name in options_of(owner)]
        if owners:
            asked = f"--features has {' '.join(names)}" if names else "--features is not given"
            raise ValueError(
                f"{flag(name)} is a flag of {', '.join(owners)}, and {asked}; leave it out, or name one of them"
            )


def options_of(name: str) -> Mapping[str, Any]:
    """An extractor's options by name."""
    return {each.name: each for each in option_fields(EXTRACTORS.classes(name)[0].options_class)}


def add_vectors(arguments: ExtractArguments) -> None:
    """Writes the feature sets of --vectors."""
    from seqmm.data.adding import is_stored, write_features
    from seqmm.data.card import write_card
    from seqmm.data.feature_sets import Features
    from seqmm.data.feature_store import feature_names
    from seqmm.data.readers.vectors import read_corpus_vectors

    made_by, files = pairs(arguments.vectors_made_by, "--vectors-made-by"), pairs(arguments.vectors, "--vectors")
    for name in sorted(made_by.keys() - files.keys()):
        raise ValueError(
            f"--vectors-made-by {name}=…: no such set in --vectors, which has: {', '.join(files) or 'none'}"
        )
    for name, file in files.items():
        found = read_corpus_vectors(arguments.corpus, file)
        provenance = {"encoder": made_by.get(name, Path(file).name)}
        missing = found.missing if found.missing.any() else None
        if missing is not None:
            provenance["missing"] = "mean vector"
        features = Features("dense", found.values, provenance=provenance, missing=missing)
        if is_stored(arguments.corpus, name, features):
            write_card(arguments.corpus)  # a run that was killed may not have come to it
            print(f"{name:<16}is there already, of the same vectors", flush=True)
            continue
        if name in feature_names(arguments.corpus) and not arguments.overwrite:
            raise ValueError(
                f"{arguments.corpus} has a feature set {name!r} of other vectors or another encoder; "
                "add --overwrite True to replace it"
            )
        write_features(arguments.corpus, name, features)
        print(f"{name:<16}{found.report.describe(len(found.values))}", flush=True)


if __name__ == "__main__":
    run_recipe(main)
