"""Build a corpus from a folder as multimodal papers publish them: labelled interactions and vectors; TikTok, Baby, …

The folder holds inter.tsv, <name>.inter, or train.json + val.json + test.json, and <modality>_feat.npy:

  python tokenized/tiktok/build.py --source data/tiktok
  python tokenized/tiktok/build.py --source data/baby --output tokenized/tiktok/baby

The published split is kept; users and items are renumbered in a seeded random order, which the published ones leak.
"""

from seqmm.building.command import prepare_command
from seqmm.cli import run_recipe

if __name__ == "__main__":
    run_recipe(lambda: prepare_command("papers", description=__doc__ or "", parent="tokenized/tiktok"))
