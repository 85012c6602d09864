"""Trains cases in the processes it is launched in and writes what happened; run by test_distributed.py.

accelerate launch --config_file recipes/accelerate/cpu_2.yaml tests/train_cases.py OUTPUT PROCESSES CASE …
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from seqmm.arguments import TrainArguments
from seqmm.evaluation.evaluator import Evaluator
from seqmm.training.callbacks import Callback
from seqmm.training.trainer import Trainer
from tests.cases import CASES


class Losses(Callback):
    """Parts of the loss by step."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_step_end(self, trainer, losses):
        self.values.append({name: float(value) for name, value in losses.items()})


def main() -> None:
    output, processes = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    results = {}
    for name in sys.argv[3:]:
        case = CASES[name]
        corpus = case.corpus()
        model = case.model(corpus)
        evaluator = Evaluator(corpus, "validation", ks=(5,), metrics=("ndcg",), batch_size=7)
        args = TrainArguments(epochs=2, batch_size=27, learning_rate=0.05, seed=3, overwrite=True, log_every=1)
        losses = Losses()
        trainer = Trainer(
            model,
            corpus,
            args,
            evaluator=evaluator,
            monitor="ndcg@5",
            output_dir=output / name,
            callbacks=[losses],
            optimizer=torch.optim.SGD,  # Adam divides by the gradient's size and so amplifies rounding of a true zero
        )
        assert trainer.accelerator.num_processes == processes, trainer.accelerator.distributed_type
        trainer.train()
        metrics = evaluator(trainer.accelerator, model)
        results[name] = {
            "losses": losses.values,
            "metrics": metrics,
            "per_user": {key: torch.from_numpy(value) for key, value in evaluator.per_user.items()},
            "parameters": {key: value.cpu() for key, value in model.state_dict().items()},
        }
        if trainer.accelerator.is_main_process:
            torch.save(results, output / f"{processes}.pt")
        trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main()
