"""Corpora and models go to the Hub, a stand-in over HTTP on loopback, and come back; what is in the way is named."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import yaml

from seqmm.data.adding import write_features
from seqmm.data.card import KEPT
from seqmm.data.corpus import Corpus
from seqmm.data.loading import load_corpus
from seqmm.data.store import ROW_GROUP
from seqmm.data.synthetic import synthetic_corpus
from seqmm.files import write_yaml
from seqmm.names import SPLITS
from tests import standin_hub
from tests.standin_hub import Blob, Client, StandinHub

pytestmark = pytest.mark.slow  # several users, each a process of its own, and runs to publish

SMALL = {"hidden_size": 16, "max_length": 8, "num_layers": 1, "inner_size": 32}
MSM4SR = {"model_type": "msm4sr", "num_experts": 2} | SMALL


# -- what the client process does -------------------------------------------------------------------------------------


def load(repo: str, **options) -> Corpus:
    return load_corpus(repo, **options)


def weights(repo: str, revision: str | None = None) -> dict[str, np.ndarray]:
    from seqmm import from_pretrained

    return {name: value.numpy() for name, value in from_pretrained(repo, revision=revision).state_dict().items()}


def joined(path: str, *more: str) -> tuple[str, dict]:
    from seqmm.arguments import DataArguments
    from seqmm.run.opening import open_corpus

    corpus, exact = open_corpus(DataArguments(path=path, joined=more))
    return corpus.name, {"revision": exact.revision, "joined": exact.joined}


def fetch(repo: str) -> Path:
    from seqmm.hub.access import local_folder

    return local_folder(repo)


def stream(repo: str, config: str, rows: int, request: int) -> list[dict]:
    """The first rows; ``request`` bytes at a time (datasets asks for 32 MiB, more than a test's whole table)."""
    from datasets import load_dataset
    from pyarrow import CacheOptions
    from pyarrow.dataset import ParquetFragmentScanOptions

    options = ParquetFragmentScanOptions(cache_options=CacheOptions(range_size_limit=request))
    read = load_dataset(repo, config, split="train", streaming=True, fragment_scan_options=options)
    return list(read.take(rows))


def run_code(text: str) -> dict:
    """Executes a card's Python blocks as they stand."""
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        with redirect_stdout(StringIO()):
            exec(block, names)
    corpus = names["corpus"]
    rows = [next(iter(names[name])) for name in ("items", "interactions", "features") if name in names]
    model = names["model"].config.model_type if "model" in names else None
    return {"fingerprint": corpus.fingerprint(), "features": list(corpus.features), "rows": rows, "model": model}


# -- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def client(hub: StandinHub, home: Path):
    with Client(hub, home / "cache") as client:
        yield client


@pytest.fixture(scope="module")
def folder(home: Path) -> Path:
    """A corpus with two protocols, and beside its own files what extraction and its owner leave lying about."""
    folder = home / "corpus"
    corpus = synthetic_corpus(80, 50, mean_length=10)
    corpus.save(folder, item_columns={"description": [f"item {i}, {'words ' * 9}" for i in range(50)]})
    replace(synthetic_corpus(80, 50, mean_length=10, protocol="ratio"), features={}).save(folder)
    card = folder / "README.md"
    card.write_text(card.read_text() + "\nMy own words.\n")
    for stray in (".extract/text/00001.parquet", "images/1.jpg", "text/.features.parquet.1.tmp", "text/features.tmp"):
        (folder / stray).parent.mkdir(parents=True, exist_ok=True)
        (folder / stray).write_bytes(b"stray")
    (folder / "notes.csv").write_text("mine")
    (folder / "image_vocabulary.txt").write_text("circle\nsquare\n")
    return folder


@pytest.fixture(scope="module")
def published(client: Client, folder: Path) -> str:
    return client.recipe("publish", "--corpus", folder, "--repo", "org/corpus", "--license", "cc-by-4.0")


@pytest.fixture(scope="module")
def run(client: Client, folder: Path, home: Path) -> Path:
    """A finished pretraining run on the corpus' folder."""
    data = {"path": str(folder), "features": ["text", "image"]}
    train = {"epochs": 1, "batch_size": 32, "output_dir": str(home / "runs" / "pretrained")}
    write_yaml(home / "pretrain.yaml", {"model": MSM4SR, "data": data, "train": train})
    shown = client.recipe("pretrain", "--config", home / "pretrain.yaml")
    assert "written to" in shown, shown
    return home / "runs" / "pretrained"


@pytest.fixture(scope="module")
def model(client: Client, run: Path, published: str) -> str:
    return client.recipe("publish", "--model", run, "--repo", "org/pretrained", "--corpus-repo", "org/corpus")


def commit_of(shown: str) -> str:
    found = re.search(r"^commit +([0-9a-f]{40})$", shown, re.M)
    assert found, shown
    return found[1]


def front(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


# -- a corpus ---------------------------------------------------------------------------------------------------------


def test_only_the_corpus_own_files_go_up(hub, folder, published):
    repository = hub.repository("dataset", "org/corpus")
    assert f"published  {hub.address}/datasets/org/corpus" in published
    assert commit_of(published) == repository.branches["main"] and repository.private
    names = set(repository.at("main").files) - {".gitattributes"}
    protocols = {f"{name}/{split}.parquet" for name in ("leave_one_out", "ratio") for split in SPLITS}
    sets = ("text", "text_vector", "image", "image_vector", "genre")
    features = {f"{name}/{file}" for name in sets for file in ("features.json", "features.parquet")}
    beside = {"README.md", "corpus.json", "items/items.parquet", "users/users.parquet", "image_vocabulary.txt"}
    assert names == beside | protocols | features
    assert all(blob.large == name.endswith(".parquet") for name, blob in repository.at("main").files.items())
    assert repository.history == ["Upload by seqmm 0.1.0", "initial commit"], "one commit"
    assert not hub.faults


def test_the_card_has_licence_statistics_protocols_and_permutation(hub, folder, published):
    text = hub.repository("dataset", "org/corpus").at("main").files["README.md"].content.decode()
    here = (folder / "README.md").read_text()
    for card in (text, here):
        data = front(card)
        assert data["license"] == "cc-by-4.0" and data["size_categories"] == ["n<1K"]
        configs = ["items", "users", "leave_one_out", "ratio", "genre", "image", "image_vector", "text", "text_vector"]
        assert [config["config_name"] for config in data["configs"]] == configs
        assert "| all | interactions per user | least: " in card and card.count("| index_order | permuted |") == 1
        assert card.split(KEPT)[1].strip() == "My own words."
    assert "org/corpus" in text and "THIS_FOLDER_OR_REPOSITORY" in here
    corpus = Corpus.load(folder)
    counts = np.bincount(np.concatenate([part.user for part in corpus.splits.values()]))
    statistics = json.loads((folder / "corpus.json").read_text())["protocols"]["leave_one_out"]["statistics"]
    assert statistics["interactions per user"]["most"] == counts.max()
    assert statistics["interactions per user"]["mean"] == pytest.approx(counts.mean(), abs=0.005)
    first = min(part.timestamp.min() for part in corpus.splits.values())
    assert statistics["time"]["first"] == datetime.fromtimestamp(first, UTC).date().isoformat()


def test_the_licence_outlives_later_writes(folder, published, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    corpus = Corpus.load(folder, features=("text",))
    write_features(tmp_path / "c", "more", corpus.features["text"])
    replace(corpus, features={}).save(tmp_path / "c")
    assert front((tmp_path / "c" / "README.md").read_text())["license"] == "cc-by-4.0"
    corpus.save(tmp_path / "c", overwrite=True)
    assert "license" not in front((tmp_path / "c" / "README.md").read_text()), "another corpus in its place"


@pytest.mark.parametrize("protocol, features", [("ratio", ("text", "genre")), ("leave_one_out", ())])
def test_a_corpus_comes_back_equal_and_no_more_than_asked(hub, client, folder, published, home, protocol, features):
    with Client(hub, home / f"cache-{protocol}", "hf_reader") as reader:
        before = len(hub.requests)
        there = reader.call(load, "org/corpus", protocol=protocol, features=features)
        sent = hub.downloaded(before)
        again = len(hub.requests)
        reader.call(load, "org/corpus", protocol=protocol, features=features)
        assert not hub.downloaded(again), "the second time from the cache"
    here = Corpus.load(folder, protocol=protocol, features=features)
    assert there.fingerprint() == here.fingerprint() and there.titles == here.titles
    assert there.origin == {"repository": "org/corpus", "revision": commit_of(published)} and here.origin == {}
    for name, made in here.features.items():
        assert np.array_equal(there.features[name].values, made.values), name
        assert there.features[name].provenance == made.provenance
    tables = {name for name in sent if name.endswith(".parquet")}
    splits = {f"{protocol}/{split}.parquet" for split in SPLITS}
    assert tables == {"items/items.parquet", "users/users.parquet"} | splits | {
        f"{name}/features.parquet" for name in features
    }


def test_unknown_names_list_what_the_repository_has(client, published):
    with pytest.raises(ValueError, match="no protocol 'cold'; it has: leave_one_out, ratio"):
        client.call(load, "org/corpus", protocol="cold")
    with pytest.raises(ValueError, match="'audio'; it has: genre, image, image_vector, text, text_vector"):
        client.call(load, "org/corpus", features=("audio",))


def test_the_cards_code_works_as_it_stands(hub, client, folder, published):
    text = hub.repository("dataset", "org/corpus").at("main").files["README.md"].content.decode()
    ran = client.call(run_code, text)
    assert ran["fingerprint"] == Corpus.load(folder).fingerprint()
    assert ran["features"] == ["genre", "image", "image_vector", "text", "text_vector"]
    items, interactions, features = ran["rows"]
    assert items["id"] == "item-0" and items["description"].startswith("item 0,")
    assert set(interactions) == {"user", "item", "timestamp", "position"} and interactions["user"] == 0
    assert features["item"] == 0


def test_streaming_fetches_a_part(hub, client, home, monkeypatch):
    monkeypatch.setattr("seqmm.data.store.ROW_GROUP", 64)  # stands for a large table in its usual groups
    monkeypatch.setattr("seqmm.data.store.write_table.__defaults__", (64, "zstd"))
    rng = np.random.default_rng(0)
    corpus = replace(synthetic_corpus(60, 2000, modalities=()), features={})
    noise = [rng.bytes(12_000).hex() for _ in range(2000)]
    corpus.save(home / "wide", item_columns={"description": noise})
    client.recipe("publish", "--corpus", home / "wide", "--repo", "org/wide", "--license", "cc0-1.0")
    size = (home / "wide" / "items" / "items.parquet").stat().st_size
    before = len(hub.requests)
    rows = client.call(stream, "org/wide", "items", 10, 1 << 16)
    assert [row["description"] for row in rows] == noise[:10]
    assert hub.downloaded(before)["items/items.parquet"] < size / 2
    train = client.call(stream, "org/wide", "leave_one_out", 5, 1 << 16)
    assert [row["item"] for row in train] == corpus.splits["train"].item[:5].tolist()
    assert ROW_GROUP <= 1 << 16


def test_another_revision_comes_back(hub, client, folder, published, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    old = Corpus.load(folder, features=("text_vector",)).features["text_vector"]
    write_features(tmp_path / "c", "text_vector", replace(old, values=old.values + 1))
    publish = ["publish", "--corpus", tmp_path / "c", "--repo", "org/corpus"]
    on_branch = commit_of(client.recipe(*publish, "--revision", "v2", "--message", "shifted"))
    assert hub.repository("dataset", "org/corpus").branches == {"main": commit_of(published), "v2": on_branch}
    assert hub.repository("dataset", "org/corpus").at("v2").title == "shifted"
    for revision, shift in (("v2", 1), (on_branch, 1), (commit_of(published), 0), (None, 0)):
        found = client.call(load, "org/corpus", features=("text_vector",), revision=revision)
        assert np.array_equal(found.features["text_vector"].values, old.values + shift), revision
    with pytest.raises(FileNotFoundError, match="org/corpus has no revision 'v9': give a branch, a tag or a commit"):
        client.call(load, "org/corpus", revision="v9")


def test_joined_corpora_are_pinned(hub, client, published, home, tmp_path):
    """run.yaml repeats the run on these very data: branches become commits, folders stay what they are."""
    here = tmp_path / "here@home"  # a folder may hold an @
    replace(synthetic_corpus(30, 20, seed=5), name="here").save(here)
    replace(synthetic_corpus(30, 20, seed=4), name="second").save(tmp_path / "second")
    publish = ["publish", "--corpus", tmp_path / "second", "--repo", "org/second", "--license", "mit"]
    commit = commit_of(client.recipe(*publish, "--revision", "v3"))
    name, data = client.call(joined, "org/corpus", "org/second@v3", str(here))
    assert name == "synthetic+second+here"
    assert data == {"revision": commit_of(published), "joined": (f"org/second@{commit}", str(here))}
    assert client.call(joined, "org/corpus", *data["joined"])[1] == data


def test_a_second_upload_changes_what_changed_and_removes_what_is_gone(hub, client, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    publish = ["publish", "--corpus", tmp_path / "c", "--repo", "org/second"]
    first = client.recipe(*publish, "--license", "cc-by-4.0")
    again = client.recipe(*publish)
    assert again.startswith("unchanged") and commit_of(again) == commit_of(first)
    repository = hub.repository("dataset", "org/second")
    assert len(repository.history) == 2
    files = repository.at("main").files | {"docs/more.md": Blob(b"the owner's", False)}
    repository.branches["main"] = repository.add("mine", files)
    (tmp_path / "c" / "text" / "features.parquet").rename(tmp_path / "c" / "text" / "part-0.parquet")
    shutil.rmtree(tmp_path / "c" / "image")
    third = client.recipe(*publish)
    assert "removed    image/features.parquet" in third and "removed    text/features.parquet" in third
    names = set(repository.at("main").files)
    assert "text/part-0.parquet" in names and "text/features.parquet" not in names
    assert not any(name.startswith("image/") for name in names) and "docs/more.md" in names
    assert client.call(load, "org/second", features=("text",)).fingerprint() == Corpus.load(folder).fingerprint()


def test_a_commit_of_somebody_else_meanwhile_is_not_lost(hub, client, folder, published, monkeypatch):
    """The commit names its parent, so files found stale in one commit are not removed from another."""
    repository = hub.repository("dataset", "org/corpus")
    files, head = repository.at("main").files, repository.branches["main"]

    def other(call_hub, call, usual=standin_hub.preupload):
        repository.branches["main"] = repository.add("somebody else", files, head)
        return usual(call_hub, call)

    routes = [(method, path, other if f is standin_hub.preupload else f) for method, path, f in standin_hub.ROUTES]
    monkeypatch.setattr(standin_hub, "ROUTES", routes)
    shown = client.recipe("publish", "--corpus", folder, "--repo", "org/corpus", "--license", "mit")
    assert "was changed by someone else meanwhile" in shown and "run the command again" in shown
    repository.branches["main"] = head
    (folder / "corpus.json").write_bytes(files["corpus.json"].content)


# -- a model ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_goes_up_with_results_and_corpus_and_comes_back_equal(hub, client, run, model, published, home):
    repository = hub.repository("model", "org/pretrained")
    files = {name: blob.content for name, blob in repository.at("main").files.items()}
    assert set(files) - {".gitattributes"} == {
        "README.md",
        "config.json",
        "metrics.json",
        "model.safetensors",
        "run.yaml",
    }
    assert commit_of(model) == repository.branches["main"]
    data = front(files["README.md"].decode())
    assert data["datasets"] == ["org/corpus"] and data["license"] == "apache-2.0" and data["library_name"] == "seqmm"
    results = data["model-index"][0]["results"][0]
    assert results["dataset"]["type"] == "org/corpus" and results["dataset"]["revision"] == commit_of(published)
    metrics = json.loads((run / "metrics.json").read_text())["validation"]
    shown = {entry["name"]: entry["value"] for entry in results["metrics"]}
    assert shown == {name: round(value, 5) for name, value in metrics.items()}
    assert Corpus.load(home / "corpus").fingerprint() in files["README.md"].decode()
    assert "Paper: Zhang, Zhou and Shen, Multimodal Pre-training" in files["README.md"].decode()
    assert "```bibtex\n@misc{msm4sr,\n" in files["README.md"].decode()
    for name in ("README.md", "config.json", "run.yaml", "metrics.json"):
        assert str(home) not in files[name].decode(), f"{name} tells where this machine keeps things"
    settings = yaml.safe_load(files["run.yaml"])
    assert settings["data"]["path"] == "org/corpus" and settings["data"]["revision"] == commit_of(published)

    there, here = client.call(weights, "org/pretrained"), client.call(weights, str(run))
    assert there.keys() == here.keys() and all(np.array_equal(there[name], here[name]) for name in here)
    ran = client.call(run_code, files["README.md"].decode())
    assert ran["model"] == "msm4sr" and ran["features"] == ["text", "image"]
    assert ran["fingerprint"] == Corpus.load(home / "corpus").fingerprint()


@pytest.mark.slow
def test_finetuning_starts_from_the_repositories_and_pushes(hub, client, run, model, published, home):
    """Pretrained model and corpus by their names; the run says which commits they were, and so do its card and YAML."""
    output = home / "runs" / "fine"
    write_yaml(home / "fine.yaml", {"model": MSM4SR, "data": {"features": ["text", "image"]}, "train": {"epochs": 1}})
    start = ["--train.init-from", "org/pretrained", "--data.path", "org/corpus", "--train.batch-size", 32]
    push = ["--hub.push-to", "org/fine", "--hub.revision", "trial", "--eval.test", "True"]
    shown = client.recipe("finetune", "--config", home / "fine.yaml", *start, *push, "--train.output-dir", output)
    assert "pushed to" in shown, shown
    settings = yaml.safe_load((output / "run.yaml").read_text())
    assert settings["data"]["revision"] == commit_of(published)
    assert settings["train"]["init_revision"] == commit_of(model)
    config = json.loads((output / "config.json").read_text())
    assert config["corpus"]["repository"] == "org/corpus" and config["corpus"]["revision"] == commit_of(published)
    assert config["pretrained_on"]["checkpoint"] == "org/pretrained"
    assert config["pretrained_on"]["checkpoint_revision"] == commit_of(model)
    none = ["--train.output-dir", home / "runs" / "begun", "--train.epochs", 0]
    client.recipe("finetune", "--config", home / "fine.yaml", *start, *none)
    begun = client.call(weights, str(home / "runs" / "begun"))
    for name, value in client.call(weights, "org/pretrained").items():
        if name.startswith("encoder."):
            assert np.array_equal(begun.pop(name), value), f"{name} starts as the checkpoint has it"
    assert not any(name.startswith("encoder.") for name in begun)

    repository = hub.repository("model", "org/fine")
    files = {name: blob.content.decode() for name, blob in repository.at("trial").files.items() if not blob.large}
    data = front(files["README.md"])
    assert data["datasets"] == ["org/corpus"] and data["base_model"] == "org/pretrained"
    assert {entry["dataset"]["split"] for entry in data["model-index"][0]["results"]} == {"validation", "test"}
    assert yaml.safe_load(files["run.yaml"])["hub"]["push_to"] is None, "who repeats the run pushes nothing here"

    repository.branches["main"] = repository.branches["trial"]
    user = Corpus.load(home / "corpus").user_ids[3]
    shown = client.recipe("recommend", "--checkpoint", "org/fine", "--user", user, "--k", 4)
    assert "msm4sr recommends" in shown and len(re.findall(r"^ +\d+ .*item-\d+", shown, re.M)) == 4
    client.recipe("publish", "--corpus", home / "corpus", "--repo", "org/copy")
    more = ["--user", user, "--k", 4, "--corpus", "org/copy"]
    assert client.recipe("recommend", "--checkpoint", "org/fine", *more) == shown, "the commit is not sought in a copy"

    client.recipe("finetune", "--config", output / "run.yaml", "--train.output-dir", home / "runs" / "again")
    once, twice = client.call(weights, str(output)), client.call(weights, str(home / "runs" / "again"))
    assert all(np.array_equal(once[name], twice[name]) for name in once), "run.yaml repeats it"


@pytest.mark.slow
def test_another_revision_of_a_model(hub, client, run, model):
    repository = hub.repository("model", "org/pretrained")
    files = dict(repository.at("main").files)
    del files["model.safetensors"]
    repository.branches["torn"] = repository.add("without weights", files, repository.branches["main"])
    before = client.call(weights, "org/pretrained", revision=commit_of(model))
    assert before.keys() == client.call(weights, str(run)).keys()
    with pytest.raises(FileNotFoundError, match=r"org--pretrained.* holds no model\.safetensors"):
        client.call(weights, "org/pretrained", revision="torn")


@pytest.mark.slow
def test_what_is_no_finished_run_or_another_corpus_is_refused(hub, client, run, published, home, tmp_path):
    def refused(folder: Path, *more: object) -> str:
        shown = client.recipe("publish", "--model", folder, "--repo", "org/refused", *more)
        assert shown.startswith("error: ") and len(shown.splitlines()) == 1, shown
        return shown

    for name in ("config.json", "metrics.json", "run.yaml", "model.safetensors", "README.md"):
        (tmp_path / "run").mkdir(exist_ok=True)
        shutil.copy(run / name, tmp_path / "run" / name)
    (tmp_path / "run" / "metrics.json").unlink()
    assert "the run is not finished" in refused(tmp_path / "run")
    shutil.copy(run / "metrics.json", tmp_path / "run" / "metrics.json")
    whole = (run / "model.safetensors").read_bytes()
    (tmp_path / "run" / "model.safetensors").write_bytes(whole[:-100])
    assert "model.safetensors cannot be read" in refused(tmp_path / "run")
    assert "holds no config.json" in refused(home)
    synthetic_corpus(40, 30, seed=3).save(tmp_path / "other")
    client.recipe("publish", "--corpus", tmp_path / "other", "--repo", "org/other", "--license", "mit")
    assert "org/other is not the corpus the model was trained on" in refused(run, "--corpus-repo", "org/other")
    shutil.copytree(home / "corpus", tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / "image")
    client.recipe("publish", "--corpus", tmp_path / "less", "--repo", "org/less", "--license", "mit")
    assert "org/less has no feature set 'image'" in refused(run, "--corpus-repo", "org/less")
    assert ("model", "org/refused") not in hub.repositories


# -- before anything is sent ------------------------------------------------------------------------------------------


def test_a_dry_run_lists_and_checks_without_network_and_writes_nothing(hub, folder, published, tmp_path):
    shutil.copytree(folder, tmp_path / "c")
    before = {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()}
    requests = len(hub.requests)
    with Client("http://127.0.0.1:9", tmp_path / "cache", None) as offline:
        more = ["--license", "odbl", "--dry-run", "True"]
        shown = offline.recipe("publish", "--corpus", tmp_path / "c", "--repo", "org/new", *more)
    assert re.search(r"^ +[\d,]+  text/features\.parquet$", shown, re.M)
    assert re.search(r"bytes in 21 files of one commit to a dataset repository", shown), shown
    for stray in (".extract/ (1 files)", "images/ (1 files)", "notes.csv", "text/ (2 files)"):
        assert f"stays here  {stray}" in shown
    assert "nothing was sent" in shown and len(hub.requests) == requests
    assert re.search(r"^ +check  licence: odbl$", shown, re.M) and "user ids as they are" in shown
    assert {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_dry_run_of_a_model(run, tmp_path):
    with Client("http://127.0.0.1:9", tmp_path / "cache", None) as offline:
        more = ["--corpus-repo", "org/corpus", "--dry-run", "True"]
        shown = offline.recipe("publish", "--model", run, "--repo", "org/new", *more)
    assert "model.safetensors" in shown and "in 5 files of one commit to a model repository" in shown
    assert "check  licence: apache-2.0, as the run's card says; --license says another" in shown
    assert "stays here  checkpoints" in shown and "not checked without network: that org/corpus" in shown


def test_a_corpus_without_a_licence_is_refused(client, home, tmp_path):
    synthetic_corpus(30, 20).save(tmp_path / "c")
    publish = ["publish", "--corpus", tmp_path / "c", "--repo", "org/refused"]

    def refused(*more: str) -> str:
        shown = client.recipe(*publish, *more)
        assert shown.startswith("error: ") and len(shown.splitlines()) == 1, shown
        return shown

    assert 'cc-by-4.0, cc-by-nc-4.0, cc0-1.0, odc-by, apache-2.0, mit, unknown …, or "other"' in refused()
    assert "did you mean 'cc-by-4.0'?" in refused("--license", "CC-BY-4.0")
    assert "needs --license-name" in refused("--license", "other")
    assert "belong to --license other" in refused("--license-name", "x")
    assert "belong to the licence 'other'" in refused("--license", "mit", "--license-name", "x", "--license-link", "y")
    other = ["--license", "other", "--license-name", "my-terms-1.0"]
    assert "must be a URL, or LICENSE" in refused(*other, "--license-link", "terms.txt")
    assert "small letters" in refused("--license", "other", "--license-name", "My terms", "--license-link", "LICENSE")
    assert "said to be in LICENSE, which the folder does not have" in refused(*other, "--license-link", "LICENSE")
    assert "license" not in json.loads((tmp_path / "c" / "corpus.json").read_text())
    (tmp_path / "c" / "LICENSE").write_text("Ask me.")
    assert client.recipe(*publish, *other, "--license-link", "LICENSE").startswith("published")
    data = front((tmp_path / "c" / "README.md").read_text())
    assert (data["license"], data["license_name"], data["license_link"]) == ("other", "my-terms-1.0", "LICENSE")


@pytest.mark.parametrize(
    "file, message",
    [
        ("leave_one_out/train.parquet", "the interactions are not those corpus.json was written with"),
        ("text_vector/features.parquet", "the values are not those features.json was written with"),
        ("items/items.parquet", "the ids are not those corpus.json was written with"),
    ],
)
def test_a_corpus_that_does_not_verify_is_refused(hub, client, tmp_path, file, message):
    corpus = synthetic_corpus(30, 20)
    corpus.save(tmp_path / "c")
    text = corpus.features["text_vector"]
    other = replace(
        corpus,
        features=corpus.features | {"text_vector": replace(text, values=text.values + 1)},
        item_ids=tuple(f"other-{i}" for i in range(20)),
        splits=corpus.splits | {"train": replace(corpus.splits["train"], timestamp=None)},
    )
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / file, tmp_path / "c" / file)
    shown = client.recipe("publish", "--corpus", tmp_path / "c", "--repo", "org/damaged", "--license", "mit")
    assert shown.startswith("error: ") and message in shown and str(tmp_path / "c") in shown
    assert ("dataset", "org/damaged") not in hub.repositories


def test_wrong_flags_are_refused(client, folder):
    for arguments, message in (
        (["--repo", "org/x"], "publish what?"),
        (["--repo", "org/x", "--corpus", folder, "--model", folder], "publish what?"),
        (["--repo", "org/x", "--corpus", folder, "--corpus-repo", "org/y"], "the repository of --corpus is --repo"),
        (["--repo", "corpus", "--corpus", folder], "must have the form org/name"),
        (["--repo", "org/a b", "--corpus", folder], "cannot be a repository's name"),
        (["--repo", "org/x", "--corpus", folder / "text"], "is not a prepared corpus"),
    ):
        shown = client.recipe("publish", *arguments)
        assert shown.startswith("error: ") and message in shown and len(shown.splitlines()) == 1, shown


# -- who may what -----------------------------------------------------------------------------------------------------


def test_a_public_repository_is_not_taken_for_a_private_one(hub, client, tmp_path):
    synthetic_corpus(30, 20).save(tmp_path / "c")
    publish = ["publish", "--corpus", tmp_path / "c", "--repo", "org/open", "--license", "mit"]
    assert client.recipe(*publish, "--private", "False").startswith("published")
    repository = hub.repository("dataset", "org/open")
    assert not repository.private
    synthetic_corpus(31, 20).save(tmp_path / "c", overwrite=True)
    shown = client.recipe(*publish)
    assert "is public, and a private repository was asked for" in shown and "--private False" in shown
    assert len(repository.history) == 2, "nothing went up"


@pytest.mark.slow
def test_access_is_explained(hub, client, folder, published, home, tmp_path):
    synthetic_corpus(30, 20).save(tmp_path / "c")

    def push(who: Client) -> str:
        shown = who.recipe("publish", "--corpus", tmp_path / "c", "--repo", "org/new", "--license", "mit")
        assert shown.startswith("error: cannot push: ") and len(shown.splitlines()) == 1, shown
        return shown

    with Client(hub, tmp_path / "nobody", None) as nobody:
        with pytest.raises(
            FileNotFoundError, match="is private and you are not logged in: check the name and `hf auth"
        ):
            nobody.call(load, "org/corpus")
        with pytest.raises(FileNotFoundError, match="there is no model repository org/nothing"):
            nobody.call(fetch, "org/nothing")
        assert "you are not logged in: check the name and `hf auth login`, or set HF_TOKEN" in push(nobody)
    with Client(hub, tmp_path / "reader", "hf_reader") as reader:
        assert reader.call(load, "org/corpus").num_users == 80
        assert "your token may not write to dataset repository org/new" in push(reader)
    unseen = "no dataset repository org/corpus at .* your account may not see it"
    with Client(hub, tmp_path / "stranger", "hf_stranger") as stranger, pytest.raises(FileNotFoundError, match=unseen):
        stranger.call(load, "org/corpus")
    with Client(hub, tmp_path / "wrong", "hf_expired") as wrong:
        with pytest.raises(FileNotFoundError, match="does not accept your token"):
            wrong.call(load, "org/corpus")
        assert "does not accept your token" in push(wrong)
    hub.repository("dataset", "org/corpus").gated = True
    with Client(hub, tmp_path / "gate", "hf_stranger") as stranger:
        hub.repository("dataset", "org/corpus").private = False
        with pytest.raises(FileNotFoundError, match="org/corpus is gated: ask for access on its page"):
            stranger.call(load, "org/corpus")
    hub.repository("dataset", "org/corpus").gated, hub.repository("dataset", "org/corpus").private = False, True


@pytest.mark.slow
def test_no_network_is_explained(hub, client, folder, published, home, tmp_path):
    """HF_HUB_OFFLINE, a Hub that cannot be reached, and one that is down; with nothing, a part or all in the cache."""
    cache = tmp_path / "cache"
    with Client(hub, cache) as online:
        online.call(load, "org/corpus", features=("text",))
    with Client(hub, cache, HF_HUB_OFFLINE="1") as offline:
        assert offline.call(load, "org/corpus", features=("text",)).num_items == 50, "what was fetched once is there"
        with pytest.raises(FileNotFoundError, match="org/corpus is only partly in the cache, and HF_HUB_OFFLINE=1"):
            offline.call(load, "org/corpus", features=("image",))
        with pytest.raises(FileNotFoundError, match="no folder org/other, and no dataset .* in the cache, and HF_HUB"):
            offline.call(load, "org/other")
        shown = offline.recipe("publish", "--corpus", folder, "--repo", "org/corpus")
        assert shown == "error: cannot push: HF_HUB_OFFLINE=1 keeps us from the Hub: unset it"
    with Client("http://127.0.0.1:9", cache) as lost:
        assert lost.call(load, "org/corpus", features=("text",)).num_items == 50
        with pytest.raises(
            FileNotFoundError, match=r"Hub at http://127.0.0.1:9 cannot be reached \(Connect.* HF_ENDPOINT"
        ):
            lost.call(fetch, "org/pretrained")
        shown = lost.recipe("publish", "--corpus", folder, "--repo", "org/corpus")
        assert shown.startswith("error: cannot push: the Hub at http://127.0.0.1:9 cannot be reached (ConnectError")
        assert len(shown.splitlines()) == 1


def test_a_hub_that_is_down_is_explained(hub, client, published, tmp_path, monkeypatch):
    def down(call_hub, call):
        raise standin_hub.Refusal(503, "Service Unavailable")

    monkeypatch.setattr(standin_hub, "ROUTES", [("GET HEAD POST", ".*", down)])
    answer = "the Hub answers 503 for dataset .* try again later"
    with Client(hub, tmp_path / "cache") as other, pytest.raises(FileNotFoundError, match=answer):
        other.call(load, "org/corpus")


def test_a_run_that_may_not_push_says_so_before_training(hub, client, folder, home):
    settings = {"model": {"model_type": "popularity"}, "data": {"path": str(folder)}}
    write_yaml(home / "popularity.yaml", settings)
    arguments = ["--config", home / "popularity.yaml", "--train.output-dir", home / "runs" / "popularity"]
    shown = client.recipe("train", *arguments, "--hub.push-to", "elsewhere/model")
    assert shown.splitlines()[-1].startswith("error: cannot push: your token may not write to"), shown
    assert not (home / "runs" / "popularity" / "metrics.json").exists()
    shown = client.recipe("train", *arguments, "--hub.push-to", "org/popularity", "--train.overwrite", "True")
    assert "pushed to" in shown
    data = front(hub.repository("model", "org/popularity").at("main").files["README.md"].content.decode())
    assert "datasets" not in data and data["model-index"][0]["results"][0]["dataset"]["type"] == "synthetic"
