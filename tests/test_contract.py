"""What every model promises. A model breaks an invariant only through a row of EXCEPTIONS."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from accelerate import Accelerator

from seqmm.arguments import TrainArguments
from seqmm.data.corpus import Corpus
from seqmm.data.feature_sets import Features
from seqmm.data.interactions import Interactions
from seqmm.evaluation.evaluator import Evaluator
from seqmm.models.base import Recommender
from seqmm.models.checkpoint import from_pretrained
from seqmm.training.callbacks import Callback
from seqmm.training.trainer import Trainer
from tests.cases import CASES, SLOW, TRAINED

_SAMPLED = "a user attends to items drawn by index: as random under any numbering, but not the same ones"
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("idfree-pe", "relabel"): "the paper's code of the item's index is an input",
    ("userec", "relabel"): _SAMPLED,
    ("userec-one", "relabel"): _SAMPLED,
    ("userec-three", "relabel"): _SAMPLED,
    ("userec-trained-features", "relabel"): _SAMPLED,
    ("userec-without-behaviour", "relabel"): _SAMPLED,
    ("userec-without-attention", "relabel"): "ties at the behaviour graph's cut go to the smaller index",
    ("userec-pe-on-both", "relabel"): "the paper's w/o Pos2: the item's index is an input",
}
ALL = sorted(CASES)


def cases(names: list[str]) -> list[ParameterSet]:
    """Names as parameters; variants beside a mechanism's first case are left to the whole suite (`make test`)."""
    return [pytest.param(name, marks=() if CASES[name].slow else (pytest.mark.slow,)) for name in names]


MAIN_LOSSES = [("bpr",), ("main",), ("softmax",), ("user", "item"), ("user_agreement", "item_agreement")]
"""What is left of a model's loss when every weight is 0: its parts after "loss"."""


def _check(name: str, invariant: str) -> None:
    if (name, invariant) in EXCEPTIONS:
        pytest.skip(EXCEPTIONS[name, invariant])


def _first_batch(model, corpus, size=24, stage=0):
    collator = model.stages[stage].collator(corpus, 0, **model.collator_options(stage))
    model.on_stage_start(stage, 0, torch.Generator().manual_seed(0))
    batch = collator(0, collator.batches(0, size)[0])
    return batch | {"step_seed": torch.tensor(11)}


def _scoring_batch(model: Recommender, corpus: Corpus, users: int = 12) -> dict[str, torch.Tensor]:
    """What the evaluator would hand over: the latest items a model reads, right-padded."""
    keep = model.history_length
    rows = [corpus.histories("test")[user] for user in range(users)]
    rows = [row if keep is None else row[len(row) - min(keep, len(row)) :] for row in rows]
    longest = max(1, *map(len, rows))
    history, mask = torch.zeros(users, longest, dtype=torch.int64), torch.zeros(users, longest, dtype=torch.bool)
    for number, row in enumerate(rows):
        history[number, : len(row)], mask[number, : len(row)] = torch.from_numpy(row), True
    return {"user": torch.arange(users), "history": history, "mask": mask}


@torch.no_grad()
def _scores(model: Recommender, corpus: Corpus) -> torch.Tensor:
    model.eval()
    return model.score(_scoring_batch(model, corpus), model.tables())


def largest_gradients(model: Recommender, corpus: Corpus) -> dict[str, float]:
    """Of every trainable parameter, the largest entry of its gradient in any phase of a first batch."""
    reached = {key: 0.0 for key, parameter in model.named_parameters() if parameter.requires_grad}
    for number, stage in enumerate(model.stages):
        batch = _first_batch(model, corpus, size=64, stage=number)
        for phase in stage.phases:
            model.zero_grad()
            losses = model(batch, phase)
            assert torch.isfinite(losses["loss"]) and losses["loss"].ndim == 0
            assert all(value.ndim == 0 for value in losses.values()), "parts are scalars"
            losses["loss"].backward()
            for key in reached:
                gradient = model.get_parameter(key).grad
                reached[key] = max(reached[key], 0.0 if gradient is None else float(gradient.abs().max()))
    return reached


@pytest.mark.parametrize("name", cases(TRAINED))
def test_gradient_reaches_every_parameter(name):
    corpus = CASES[name].corpus()
    for key, size in largest_gradients(CASES[name].model(corpus), corpus).items():
        if (f"{name}:{key}", "gradient") not in EXCEPTIONS:
            assert size > 1e-9, f"{key} gets no gradient: {size}"


@pytest.mark.parametrize("name", [name for name in TRAINED if name.endswith("-alone")])
def test_a_term_of_weight_zero_is_neither_made_nor_prepared(name):
    corpus = CASES[name].corpus()
    model = CASES[name].model(corpus)
    parts = model(_first_batch(model, corpus))
    assert tuple(parts)[1:] in MAIN_LOSSES
    assert set(model.hook_state) <= {"kept_edges", "neighbours", "item_weights"}, "no augmented graph, no clusters"


@pytest.mark.parametrize("name", cases(TRAINED))
def test_a_step_in_bfloat16_is_near_one_in_float32(name):
    corpus = CASES[name].corpus()
    model = CASES[name].model(corpus)
    for number, stage in enumerate(model.stages):
        batch = _first_batch(model, corpus, size=64, stage=number)
        for phase in stage.phases:
            expected = float(model(batch, phase)["loss"].detach())
            model.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(batch, phase)["loss"]
            loss.backward()
            assert float(loss.detach()) == pytest.approx(expected, rel=0.05, abs=0.02)
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", cases(ALL))
def test_save_load_bind(name, tmp_path):
    corpus = CASES[name].corpus()
    model = CASES[name].model(corpus)
    before = _scores(model, corpus)
    model.save_pretrained(tmp_path)
    for _ in range(2):  # uninitialised memory is often zero the first time
        loaded = from_pretrained(str(tmp_path)).bind(corpus)
        assert type(loaded) is type(model)
        assert set(loaded.state_dict()) == set(model.state_dict())
        torch.testing.assert_close(_scores(loaded, corpus), before, rtol=0, atol=0)
    assert torch.isfinite(before).all() and before.std() > 0


@pytest.mark.parametrize("name", cases(ALL))
def test_bind_writes_no_parameter_and_checks_the_corpus(name):
    case = CASES[name]
    corpus = case.corpus()
    model = case.model(corpus)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.bind(corpus)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    if "num_items" in model.sized_by:
        with pytest.raises(ValueError, match="num_items = 40"):
            model.bind(case.corpus(num_items=41))
    if case.features:
        first = case.features[0]
        wrong = replace(corpus.features[first], provenance={"encoder": "another"})
        said = "another"
        if wrong.vocabulary is not None:  # tags are what their words are, whichever column they were read from
            wrong, said = replace(wrong, vocabulary=tuple(f"another {word}" for word in wrong.vocabulary)), "vocabulary"
        with pytest.raises(ValueError, match=f"{first}.*{said}"):
            model.bind(replace(corpus, features=corpus.features | {first: wrong}))


@pytest.mark.parametrize("name", cases(ALL))
def test_score_is_represent_times_items(name):
    _check(name, "dot_product")
    corpus = CASES[name].corpus()
    model = CASES[name].model(corpus).eval()
    batch = _scoring_batch(model, corpus)
    with torch.no_grad():
        tables = model.tables()
        scores = model.score(batch, tables)
        assert scores.shape == (12, corpus.num_items)
        torch.testing.assert_close(model.score(batch, tables, slice(7, 19)), scores[:, 7:19], rtol=1e-5, atol=1e-6)
        if model.dot_product:
            assert tables["items"].shape[0] == corpus.num_items
            torch.testing.assert_close(model.represent(batch, tables) @ tables["items"].T, scores, rtol=1e-5, atol=1e-6)


def _relabel(corpus: Corpus, new_of_old: np.ndarray) -> Corpus:
    """The same data with item ``i`` called ``new_of_old[i]``."""
    old_of_new = np.argsort(new_of_old)
    splits = {
        name: Interactions(part.user, new_of_old[part.item], part.position, part.timestamp)
        for name, part in corpus.splits.items()
    }
    features = {}
    for name, feature in corpus.features.items():
        if feature.offsets is None:
            features[name] = replace(feature, values=feature.values[old_of_new])
        else:
            lengths = np.diff(feature.offsets)
            rows = [feature.values[feature.offsets[i] : feature.offsets[i + 1]] for i in old_of_new]
            offsets = np.concatenate([[0], np.cumsum(lengths[old_of_new])])
            features[name] = replace(feature, values=np.concatenate(rows), offsets=offsets)
    assert all(isinstance(feature, Features) for feature in features.values())
    return replace(corpus, splits=splits, features=features, item_ids=tuple(corpus.item_ids[i] for i in old_of_new))


@pytest.mark.parametrize("name", cases(ALL))
def test_relabelled_items_permute_scores(name):
    _check(name, "relabel")
    corpus = CASES[name].corpus(num_items=41)  # a size that no other axis has
    model = CASES[name].model(corpus)
    scores = _scores(model, corpus)
    new_of_old = np.random.default_rng(1).permutation(41)
    relabelled = _relabel(corpus, new_of_old)
    other = CASES[name].model(relabelled)
    order = torch.from_numpy(np.argsort(new_of_old))
    state = model.state_dict()
    for key, value in state.items():
        for axis in [axis for axis, size in enumerate(value.shape) if size == 41]:
            value = value.index_select(axis, order)
        state[key] = value
    other.load_state_dict(state)
    torch.testing.assert_close(_scores(other, relabelled)[:, new_of_old], scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", cases(TRAINED))
def test_batch_is_untouched_and_a_batch_is_a_pure_function(name):
    corpus = CASES[name].corpus()
    model = CASES[name].model(corpus)
    batch = _first_batch(model, corpus)
    copy = {key: value.clone() for key, value in batch.items()}
    first = {key: float(value.detach()) for key, value in model(batch).items()}
    assert all(torch.equal(batch[key], copy[key]) for key in copy)
    assert {key: float(value.detach()) for key, value in model(batch).items()} == first
    collator = model.stages[0].collator(corpus, 0, **model.collator_options(0))
    rows = collator.batches(1, 24)
    assert sorted(np.concatenate(rows)) == sorted(np.concatenate(collator.batches(2, 24)))
    whole, part = collator(1, rows[0]), collator(1, rows[0][3:9])
    for key, value in part.items():  # padding may be shorter in a part
        expected = whole[key][3:9]
        torch.testing.assert_close(value, expected[:, : value.shape[1]] if value.ndim > 1 else expected)
    assert all(len(value) == 0 for value in collator(1, rows[0][:0]).values())


class _Above(Exception):
    """What was to be shown is shown; the other epochs would show it again."""


class _UntilAbove(Evaluator):
    """Ends a training once validation is above a value: most models are there long before their last epoch."""

    least = 0.0

    def __call__(self, accelerator, model):
        metrics = super().__call__(accelerator, model)
        if metrics["ndcg@10"] > self.least:
            raise _Above
        return metrics


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_learns_planted_structure(name, tmp_path):
    """Beats popularity on held-out items by a clear margin within some epochs."""
    _check(name, "learns")
    corpus = CASES[name].corpus(num_users=300, num_items=60, mean_length=14)
    evaluator = Evaluator(corpus, "validation", ks=(10,), metrics=("ndcg",))
    accelerator = Accelerator()
    popular = evaluator(accelerator, CASES["popularity"].model(corpus))["ndcg@10"]
    model = CASES[name].model(corpus, hidden_size=32)
    args = TrainArguments(epochs=40, batch_size=128, learning_rate=0.01, save_every=0, patience=0)
    enough = _UntilAbove(corpus, "validation", ks=(10,), metrics=("ndcg",))
    enough.least = 1.3 * popular
    with contextlib.suppress(_Above):
        Trainer(model, corpus, args, evaluator=enough, monitor="ndcg@10", output_dir=tmp_path).train()
    learnt = evaluator(accelerator, model)["ndcg@10"]
    assert learnt > 1.3 * popular, f"{learnt:.4f} against popularity's {popular:.4f}"


class _Interrupted(Callback):
    """Asks to stop after a given step, as Ctrl-C does."""

    def __init__(self, stop_at):
        self.stop_at = stop_at

    def on_step_end(self, trainer, losses):
        if trainer.state.step == self.stop_at:
            trainer.interrupt()


RESUMED = ("bpr", "mmssl", "mentor", "sasrec", "msm4sr")
"""What `make test-fast` resumes: one hook, several phases, state of its own, two kinds of batches."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in RESUMED else pytest.mark.slow) for n in TRAINED])
def test_resume_in_the_middle_of_an_epoch_is_exact(name, tmp_path):
    options = {"dropout": 0.3} if "dropout" in CASES[name].options else {}
    corpus = CASES[name].corpus()
    evaluator = Evaluator(corpus, "validation", ks=(5,), metrics=("ndcg",))
    args = TrainArguments(
        epochs=2, batch_size=29, learning_rate=0.01, seed=5, schedule="cosine", gradient_accumulation_steps=2
    )

    def trainer(folder, *callbacks, **more):
        model, place = CASES[name].model(corpus, **options), tmp_path / folder
        chosen = {"evaluator": evaluator, "monitor": "ndcg@5", "output_dir": place, "callbacks": callbacks}
        return Trainer(model, corpus, replace(args, **more), **chosen)

    straight = trainer("straight")
    state = straight.train()
    per_epoch = state.step // 2
    assert per_epoch >= 2, "an epoch must have a middle"
    interrupted = trainer("resumed", _Interrupted(per_epoch + 1))  # one step into the second epoch
    with pytest.raises(KeyboardInterrupt, match="resume"):
        interrupted.train()
    resumed = trainer("resumed", resume=True)
    again = resumed.train()
    assert again.step == state.step and again.best == state.best and again.validation == state.validation
    for (key, value), other in zip(
        straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other), key


def test_every_exception_names_a_case_that_exists():
    for (name, invariant), reason in EXCEPTIONS.items():
        assert name.split(":")[0] in CASES and invariant in ("gradient", "dot_product", "relabel", "learns") and reason
