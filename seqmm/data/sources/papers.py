"""Sets of vectors as multimodal papers publish them."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from seqmm.data.readers.papers import read_published
from seqmm.data.sources.base import Source, SourceData, about_in
from seqmm.options import Options, option
from seqmm.registry import register

ENCODER = "as published with the data"


@dataclass(frozen=True)
class PapersOptions(Options):
    """One published folder."""

    source: Path = option(
        MISSING,
        "Folder of inter.tsv, <name>.inter or train.json + val.json + test.json, and <modality>_feat.npy.",
    )
    modalities: tuple[str, ...] | None = option(None, "Which vectors to take; all there are if absent.")


@register
class Papers(Source):
    """Reads a folder as multimodal papers publish them: labelled interactions and vectors (TikTok, MMRec's Baby …)."""

    name = "papers"
    options_class = PapersOptions
    options: PapersOptions
    licence = "the publisher's; none is given with the derived files. Research use, cite the paper they come with"

    def read(self) -> SourceData:
        source = self.options.source
        log, features = read_published(source)
        wanted = tuple(features) if self.options.modalities is None else self.options.modalities
        for name in wanted:
            if name not in features:
                have = ", ".join(features) or "none"
                raise ValueError(f"{source} has no vectors of {name!r} ({name}_feat.npy); it has: {have}")
        return SourceData(
            log,
            features={name: (features[name], ENCODER) for name in wanted},
            protocols=("given",),
            k_core=0,
            drop_untrained=True,
        )

    def corpus_name(self) -> str:
        return self.options.source.resolve().name

    def about(self) -> str:
        about = about_in("tiktok")
        if self.corpus_name().lower() == "tiktok":
            return about
        return about[: about.index("\n## ")] + "\n"  # what is true of every such folder
