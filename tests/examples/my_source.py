"""A data source of one's own: a play log as a music server writes it, one JSON object a line.

python recipes/prepare.py my_source:Plays --log plays.jsonl --output corpora/plays
"""

import json
from dataclasses import MISSING, dataclass
from pathlib import Path

import seqmm


@dataclass(frozen=True)
class PlaysOptions(seqmm.Options):
    """Where the log is."""

    log: Path = seqmm.option(MISSING, "The log: {listener, track, title, at} a line, at in ms.")


@seqmm.register
class Plays(seqmm.Source):
    """Reads the play log of a music server."""

    name = "plays"
    options_class = PlaysOptions
    licence = "CC0-1.0"

    def read(self):
        plays = [json.loads(line) for line in self.options.log.read_text().splitlines()]
        tracks = {play["track"]: {"track": play["track"], "title": play["title"]} for play in plays}
        return seqmm.SourceData.of(
            plays, list(tracks.values()), user="listener", item="track", timestamp="at", time_unit="ms"
        )
