"""Train a recommender on a prepared corpus.

accelerate launch recipes/train.py --config recipes/configs/sasrec/movielens.yaml
accelerate launch recipes/train.py --config recipes/configs/lightgcn/movielens.yaml --model.num-layers 3 --train.seed 1
accelerate launch recipes/train.py --config recipes/configs/mentor/baby.yaml --variant M1   (a row of its variants)
accelerate launch --config_file recipes/accelerate/cpu_2.yaml recipes/train.py --config …      (two processes)
… --train.resume True                                        (go on after Ctrl-C or a crash)
"""

from seqmm.cli import run_recipe
from seqmm.run.settings import load_run


def main() -> None:
    run = load_run(description=__doc__)
    if run.train.init_from is not None:
        raise ValueError("train.init_from is set: a run that starts from a checkpoint is recipes/finetune.py's")

    from seqmm.run.fit import fit_and_publish
    from seqmm.run.run import Run

    fit_and_publish(Run(run))


if __name__ == "__main__":
    run_recipe(main)
