"""Build a corpus from a folder as multimodal papers publish them: labelled interactions and vectors; TikTok, Baby, …

The folder holds inter.tsv, <name>.inter, or train.json + val.json + test.json, and <modality>_feat.npy:

  python tokenized/tiktok/build.py --source data/tiktok
  python tokenized/tiktok/build.py --source data/baby --output tokenized/tiktok/baby

The published split is kept; users and items are renumbered in a seeded random order, which the published ones leak.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from seqmm.cli import run_recipe


@dataclass
class Arguments:
    """Build a corpus from labelled interactions and vectors."""

    source: Path
    """Folder of inter.tsv, <name>.inter or train.json + val.json + test.json, and <modality>_feat.npy."""
    output: Path | None = None
    """Folder to write; tokenized/tiktok/<name of the source> if absent."""
    modalities: tuple[str, ...] | None = None
    """Which vectors to take; all there are if absent."""
    encoder: str = "as published with the data"
    """What made the vectors; kept as their provenance."""
    drop_untrained: bool = True
    """Drop users without a train interaction (TikTok has ten), or refuse them."""
    index_order: Literal["permuted", "source"] = "permuted"
    """Numbering of users and items: seeded random, or the published one (which can tell the label)."""
    seed: int = 0
    """Of the numbering."""
    overwrite: bool = False
    """Replace a corpus that is already there."""


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__, config=(tyro.conf.FlagConversionOff,))

    from seqmm.building.build import build, next_steps
    from seqmm.data.readers.papers import read_published

    log, features = read_published(arguments.source)
    wanted = tuple(features) if arguments.modalities is None else arguments.modalities
    for name in wanted:
        if name not in features:
            have = ", ".join(features) or "none"
            raise ValueError(f"{arguments.source} has no vectors of {name!r} ({name}_feat.npy); it has: {have}")
    built = build(
        log,
        None,
        arguments.output or Path("tokenized") / "tiktok" / arguments.source.resolve().name,
        protocols=("given",),
        about=Path(__file__).with_name("README.md"),
        overwrite=arguments.overwrite,
        k=0,
        drop_untrained=arguments.drop_untrained,
        index_order=arguments.index_order,
        seed=arguments.seed,
        features={name: (features[name], arguments.encoder) for name in wanted},
    )
    print("\n".join(next_steps(built)))


if __name__ == "__main__":
    run_recipe(main)
