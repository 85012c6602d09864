"""Recommendations by external ids: known users, new users, new items, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seqmm.arguments import DataArguments
from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus
from seqmm.files import write_yaml
from seqmm.models.checkpoint import check_trained_on, from_pretrained
from seqmm.models.making import make_model
from seqmm.models.registry import model_class
from seqmm.serving.index import Index, open_checkpoint
from seqmm.serving.new_items import add_items, read_new_items
from seqmm.serving.recommendations import recommend, similar_items

SMALL = {"hidden_size": 16, "max_length": 6, "num_layers": 1, "num_heads": 2, "inner_size": 16}


def made(model_type: str, features: tuple[str, ...] = (), **options):
    whole = synthetic_corpus(num_users=50, num_items=40)
    corpus = replace(whole, features={name: whole.features[name] for name in features})
    torch.manual_seed(0)
    cls = model_class(model_type)
    return cls.for_corpus(cls.config_class(**options), corpus).eval(), corpus


def history_of(corpus: Corpus, user: int) -> list[int]:
    parts = [part for part in corpus.splits.values()]
    rows = [row for part in parts for row in zip(part.position, part.item, part.user, strict=True) if row[2] == user]
    return [int(item) for _, item, _ in sorted(rows)]


@pytest.mark.parametrize("model_type", ["sasrec", "bpr", "item_knn", "popularity"])
def test_a_known_user_gets_the_best_unseen_items(model_type):
    model, corpus = made(model_type, **(SMALL if model_type == "sasrec" else {}))
    history = history_of(corpus, 7)
    read = (
        history if model.history_length is None else history[len(history) - min(model.history_length, len(history)) :]
    )
    batch = {
        "user": torch.tensor([7]),
        "history": torch.tensor([read], dtype=torch.int64).view(1, -1),
        "mask": torch.ones(1, len(read), dtype=torch.bool),
    }
    with torch.no_grad():
        scores = model.score(batch, model.tables())[0].clone()
    scores[history] = -torch.inf
    found = Index(model, corpus).recommend("user-7", k=5)
    assert [item.score for item in found] == pytest.approx(scores.topk(5).values.tolist(), rel=1e-5)
    numbers = [corpus.item_ids.index(item.item_id) for item in found]
    assert scores[numbers].tolist() == pytest.approx(scores.topk(5).values.tolist(), rel=1e-5)
    assert [item.title for item in found] == [corpus.titles[number] for number in numbers]


def test_a_new_user_is_his_history():
    model, corpus = made("sasrec", **SMALL)
    history = [corpus.item_ids[item] for item in history_of(corpus, 7)]
    index = Index(model, corpus)
    for one, other in zip(index.recommend("user-7", k=5), index.recommend(history=history, k=5), strict=True):
        assert one.item_id == other.item_id
        assert one.score == pytest.approx(other.score, rel=1e-5)
    short = index.recommend(history=history[-1:], k=39)
    assert len(short) == 39
    assert history[-1] not in [item.item_id for item in short]


def test_a_user_who_had_nearly_everything_gets_what_is_left():
    model, corpus = made("sasrec", **SMALL)
    assert len(Index(model, corpus).recommend(history=list(corpus.item_ids[:38]), k=10)) == 2


@pytest.mark.parametrize("model_type", ["sasrec", "bpr", "item_knn"])
def test_many_users_are_each_served_as_alone(model_type):
    model, corpus = made(model_type, **(SMALL if model_type == "sasrec" else {}))
    index = Index(model, corpus)
    everyone = index.recommend_all(k=4)
    assert list(everyone) == list(corpus.user_ids)
    users = ["user-9", "user-0", "user-31"]
    found = recommend(model, corpus, users=users, k=4)
    assert list(found) == users
    for user in users:
        alone = index.recommend(user, k=4)
        for one, among_all, among_three in zip(alone, everyone[user], found[user], strict=True):
            assert one.item_id == among_all.item_id == among_three.item_id
            assert one.score == pytest.approx(among_all.score, rel=1e-5)
        assert [item.item_id for item in recommend(model, corpus, user, k=4)] == [item.item_id for item in alone]


def test_what_a_user_had_may_be_recommended_again():
    model, corpus = made("sasrec", **SMALL)
    index, had = Index(model, corpus), {f"item-{item}" for item in history_of(corpus, 7)}
    everything = index.recommend("user-7", k=40, filter_seen=False)
    assert len(everything) == 40
    unseen = [item.item_id for item in everything if item.item_id not in had]
    assert unseen == [item.item_id for item in index.recommend("user-7", k=40)]
    again = recommend(model, corpus, history=sorted(had), k=40, filter_seen=False)
    assert had < {item.item_id for item in again}


def test_similar_items_by_cosine_or_by_who_had_them():
    model, corpus = made("bpr")
    vectors = model.tables()["items"].detach().numpy()
    cosine = vectors @ vectors[4] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[4])
    cosine[4] = -np.inf
    found = similar_items(model, corpus, "item-4", k=5)
    assert [item.item_id for item in found] == [f"item-{item}" for item in np.argsort(-cosine)[:5]]
    assert [item.score for item in found] == pytest.approx(np.sort(cosine)[::-1][:5].tolist(), rel=1e-5)
    some = similar_items(model, corpus, "item-4", k=2, among=["item-1", "item-2", "item-3"])
    assert {item.item_id for item in some} < {"item-1", "item-2", "item-3"}
    knn, corpus = made("item_knn")
    assert similar_items(knn, corpus, "item-4", k=3) == Index(knn, corpus).recommend(history=["item-4"], k=3)
    with pytest.raises(ValueError, match="popularity has no item vectors"):
        similar_items(*made("popularity"), "item-4")
    with pytest.raises(ValueError, match="no item 'nothing'"):
        similar_items(model, corpus, "nothing")


def test_a_model_is_bound_when_it_is_served_and_never_to_another_corpus(tmp_path):
    model, corpus = made("item_knn")
    model.save_pretrained(tmp_path)
    loaded = from_pretrained(str(tmp_path))
    assert recommend(loaded, corpus, "user-3") == recommend(model, corpus, "user-3")
    other = synthetic_corpus(num_users=50, num_items=40, seed=1)
    with pytest.raises(ValueError, match=r"bound to another corpus than 'synthetic' .* model.bind\(corpus\)"):
        recommend(model, other, "user-3")
    with pytest.raises(ValueError, match="Give user, users or history"):
        recommend(model, corpus)


def test_faiss_finds_the_same():
    pytest.importorskip("faiss")
    model, corpus = made("sasrec", **SMALL)
    exact, fast = Index(model, corpus), Index(model, corpus, backend="faiss")
    for user in ("user-3", "user-11"):
        ours, theirs = exact.recommend(user, k=10), fast.recommend(user, k=10)
        assert [item.item_id for item in ours] == [item.item_id for item in theirs]
    users = ["user-3", "user-11", "user-40"]
    for ours, theirs in zip(exact.recommend_all(users).values(), fast.recommend_all(users).values(), strict=True):
        assert [item.item_id for item in ours] == [item.item_id for item in theirs]
    with pytest.raises(ValueError, match="unknown backend 'fais'; did you mean 'faiss'"):
        Index(model, corpus, backend="fais")
    knn, corpus = made("item_knn")
    with pytest.raises(ValueError, match="no dot product"):
        Index(knn, corpus, backend="faiss")


def test_audience():
    model, corpus = made("bpr")
    item = corpus.item_ids[4]
    found = Index(model, corpus).audience(item, k=50)
    owners = {user for user in range(50) if 4 in history_of(corpus, user)}
    assert {name for name, _ in found} == {f"user-{user}" for user in range(50) if user not in owners}
    with torch.no_grad():
        tables = model.tables()
        best = int(found[0][0].removeprefix("user-"))
        batch = {"user": torch.tensor([best]), "history": torch.zeros(1, 0, dtype=torch.int64)}
        assert found[0][1] == pytest.approx(model.score(batch, tables)[0, 4].item(), rel=1e-5)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def lines(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def content(corpus: Corpus, item: int) -> dict:
    """What a line of new items says for a copy of an item of the corpus."""
    row: dict = {}
    for name, feature in corpus.features.items():
        part = (
            feature.values[item]
            if feature.offsets is None
            else feature.values[slice(*feature.offsets[item : item + 2])]
        )
        row[name] = [feature.vocabulary[tag] for tag in part] if feature.kind == "tags" else part.tolist()
    return row


@pytest.mark.parametrize("model_type", ["sasrecm", "msm4sr"])
def test_new_items_by_content(tmp_path, model_type):
    model, corpus = made(model_type, ("text", "image_vector", "genre"), use_ids=False, **SMALL)
    before = Index(model, corpus).recommend("user-7", k=39)
    file = lines(
        tmp_path / "new.jsonl",
        [
            {"id": "copy of 5", "title": "a twin", **content(corpus, 5)},
            {"id": "copy of 9", **content(corpus, 9), "genre": ["never seen", *content(corpus, 9)["genre"]]},
        ],
    )
    Path(file).write_text(Path(file).read_text().replace("a twin", "a\u2028twin"))  # no line end of JSON lines
    new = read_new_items(file, model, corpus)
    assert new.titles == ("a\u2028twin", "")
    grown = add_items(model, corpus, new)
    index = Index(model, grown)
    assert grown.num_items == 42
    scores = {item.item_id: item.score for item in index.recommend("user-7", k=42)}
    ranked = index.recommend("user-7", k=5, among=new.ids)
    assert [item.item_id for item in ranked] == sorted(new.ids, key=lambda name: -scores[name])
    assert {item.title for item in ranked} == {"a\u2028twin", ""}
    for item in before:  # an item's twin scores as the item, and the others as before
        assert scores[item.item_id] == pytest.approx(item.score, rel=1e-4, abs=1e-6)
        if item.item_id in ("item-5", "item-9"):
            assert scores[f"copy of {item.item_id[5:]}"] == pytest.approx(item.score, rel=1e-4, abs=1e-6)
    users = index.audience("copy of 5", k=3)
    assert len(users) == 3


def test_texts_are_encoded_by_the_checkpoints_encoder(tmp_path, monkeypatch):
    model, corpus = made("sasrecm", ("text",), use_ids=False, **SMALL)

    class Encoder:
        provenance = {"encoder": "some", "weights": "abc", "pooling": "mean", "max_tokens": "64"}
        options: dict = {}

        def __init__(self, name, **options):
            assert name == "mine"
            Encoder.options = options

        def encode(self, texts, *, label):
            return np.stack([np.full(16, len(text), dtype=np.float32) for text in texts])

    monkeypatch.setattr("seqmm.serving.new_items.TextEncoder", Encoder)
    file = lines(tmp_path / "new.jsonl", [{"id": "a", "text": ["one", "three", [1.0] * 16]}, {"id": "b", "text": []}])
    with pytest.raises(ValueError, match="made with weights None, but the encoder mine has 'abc'"):
        read_new_items(file, model, corpus, "mine")
    made_by = replace(corpus.features["text"], provenance=Encoder.provenance | {"unit": "sentence"})
    corpus = replace(corpus, features={"text": made_by})
    model.config.features["text"]["provenance"] = made_by.provenance
    new = read_new_items(file, model, corpus, "mine")
    assert new.features["text"].offsets.tolist() == [0, 3, 3]
    assert new.features["text"].values[:, 0].tolist() == [3, 5, 1]
    assert new.features["text"].provenance == made_by.provenance
    assert Encoder.options == {"pooling": "mean", "max_tokens": 64, "revision": None}  # as the corpus' texts were


def test_what_cannot_be_done_is_said(tmp_path):
    bpr, corpus = made("bpr")
    index = Index(bpr, corpus)
    with pytest.raises(ValueError, match="cannot serve a new one; use a model that reads histories"):
        index.recommend(history=["item-3"])
    with pytest.raises(ValueError, match="no user 'Bob'; its user ids look like 'user-0'"):
        index.recommend("Bob")
    with pytest.raises(ValueError, match="k = 41 must be between 1 and the 40 items"):
        index.recommend("user-1", k=41)
    with pytest.raises(ValueError, match="one of them"):
        index.recommend()
    with pytest.raises(ValueError, match="bpr reads no content"):
        add_items(bpr, corpus, None)
    sasrec, corpus = made("sasrec", **SMALL)
    with pytest.raises(ValueError, match="empty history"):
        Index(sasrec, corpus).recommend(history=[])
    with pytest.raises(ValueError, match="no item 'item-40'"):
        Index(sasrec, corpus).recommend(history=["item-3", "item-40"])
    with_ids, corpus = made("sasrecm", ("text",), **SMALL)
    with pytest.raises(ValueError, match="id vector for each of its 40 items.*use_ids=False"):
        read_new_items(tmp_path / "absent", with_ids, corpus)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a"}, "line 1: 'text' is missing; the model needs: id, text"),
        ({"id": "a", "text": "one sentence"}, "line 1, 'text': 'one sentence' is not content of a ragged"),
        ({"id": "a", "text": [[1.0, 2.0]]}, r"a vector of 16 numbers, got \[1.0, 2.0\]"),
        ({"id": "a", "text": [[float("nan")] * 16]}, "nan"),
        ({"id": "item-3", "text": []}, "'item-3' is in corpus 'synthetic' already"),
    ],
)
def test_bad_new_items(tmp_path, row, message):
    model, corpus = made("sasrecm", ("text",), use_ids=False, **SMALL)
    with pytest.raises(ValueError, match=message):
        add_items(model, corpus, read_new_items(lines(tmp_path / "new.jsonl", [row]), model, corpus))


def test_new_items_file(tmp_path):
    model, corpus = made("sasrecm", ("text",), use_ids=False, **SMALL)
    with pytest.raises(FileNotFoundError, match="no file .*absent"):
        read_new_items(tmp_path / "absent", model, corpus)
    (tmp_path / "broken").write_text('{"id": 1')
    with pytest.raises(ValueError, match="broken, line 1: not valid JSON"):
        read_new_items(tmp_path / "broken", model, corpus)
    twice = [{"id": "a", "text": []}, {"id": "a", "text": []}]
    with pytest.raises(ValueError, match="one id"):
        add_items(model, corpus, read_new_items(lines(tmp_path / "new", twice), model, corpus))


def test_open_checkpoint(tmp_path):
    model, corpus = made("sasrecm", ("text",), **SMALL)
    corpus.save(tmp_path / "corpus")
    run = tmp_path / "run"
    model.save_pretrained(run)
    data = DataArguments(path=str(tmp_path / "corpus"), features=("text",))
    write_yaml(run / "run.yaml", {"data": vars(data) | {"features": ["text"]}})
    loaded, same = open_checkpoint(str(run))
    assert same.fingerprint() == corpus.fingerprint()
    ours, theirs = Index(model, corpus).recommend("user-2"), Index(loaded, same).recommend("user-2")
    assert [item.item_id for item in ours] == [item.item_id for item in theirs]
    fingerprint = model.config.corpus.pop("fingerprint")
    with pytest.raises(ValueError, match=r"config.json does not say which corpus.*corpus.fingerprint is missing"):
        check_trained_on(model, corpus, str(run))
    model.config.corpus["fingerprint"] = fingerprint
    given, mine = open_checkpoint(str(run), corpus)  # one that is in memory
    assert mine is corpus and Index(given, mine).recommend("user-2") == ours

    other = synthetic_corpus(num_users=50, num_items=40, seed=1)
    other.save(tmp_path / "other")
    with pytest.raises(
        ValueError, match=r"was trained on 'synthetic' \(leave_one_out, fingerprint .* recipes/finetune"
    ):
        open_checkpoint(str(run), str(tmp_path / "other"))
    with pytest.raises(ValueError, match="trained on"):
        check_trained_on(model, other, "somewhere")

    features = {"text": replace(corpus.features["text"], provenance={"encoder": "another"})}
    replace(corpus, features=features).save(tmp_path / "encoder")
    with pytest.raises(ValueError, match="'text' .* provenance.encoder 'another'"):
        open_checkpoint(str(run), str(tmp_path / "encoder"))

    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated or damaged"):
        open_checkpoint(str(run))
    with pytest.raises(FileNotFoundError, match="absent"):
        open_checkpoint(str(tmp_path / "absent"))


def test_a_call_leaves_every_module_in_its_mode():
    corpus = synthetic_corpus(80, 50)
    model = make_model("sasrec", corpus).train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.LayerNorm)).eval()
    modes = [module.training for module in model.modules()]
    recommend(model, corpus, "user-7", k=2)
    similar_items(model, corpus, "item-3", k=2)
    assert [module.training for module in model.modules()] == modes and not frozen.training
    with pytest.raises(ValueError, match=r"user is one id, not a list: for several give users=\[…\]"):
        recommend(model, corpus, ["user-7", "user-8"])
