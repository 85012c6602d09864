"""Cards, licences and errors that need no Hub; what goes over HTTP is in test_publish.py."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard

from seqmm.arguments import DataArguments, EvalArguments, HubArguments, TrainArguments
from seqmm.data.card import KEPT, card_text
from seqmm.data.corpus import Corpus
from seqmm.data.store import read_record
from seqmm.hub.access import corpus_files, local_folder
from seqmm.hub.licences import LICENSES, check_license
from seqmm.models.checkpoint import from_pretrained
from seqmm.publishing.cards import write_model_card
from seqmm.publishing.plans import plan_corpus, plan_model
from seqmm.run.run import Run
from seqmm.run.settings import RunConfig
from tests.cases import CASES

ORIGIN = {"repository": "org/somewhere", "revision": "0" * 40}


def trained(folder, corpus: Corpus) -> None:
    """A BPR run of an epoch."""
    run = RunConfig(
        CASES["bpr"].model(corpus).config,
        DataArguments(str(folder.parent / "somewhere")),
        TrainArguments(str(folder), epochs=1, batch_size=64),
        EvalArguments(test=True),
        HubArguments(push_to=None),
    )
    Run(run, replace(corpus, places=(str(folder.parent / "somewhere"),))).fit()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "bpr"
    trained(folder, CASES["bpr"].corpus())
    return folder


def test_the_card_holds_results_corpus_and_how_to_load(run_folder):
    card = ModelCard.load(run_folder / "README.md")
    names = {result.metric_name for result in card.data.eval_results}
    assert {"recall@5", "ndcg@20"} <= names
    assert {result.dataset_split for result in card.data.eval_results} == {"validation", "test"}
    assert {result.dataset_type for result in card.data.eval_results} == {"synthetic"}
    assert card.data.library_name == "seqmm" and card.data.license == "apache-2.0" and card.data.datasets is None
    assert from_pretrained(str(run_folder)).config.corpus["fingerprint"] in card.text
    assert "FOLDER_OF_THE_CORPUS" in card.text and "recipes/train.py" in card.text


def test_a_corpus_of_the_hub_is_named_with_its_commit(tmp_path):
    trained(tmp_path / "bpr", replace(CASES["bpr"].corpus(), origin=ORIGIN))
    card = ModelCard.load(tmp_path / "bpr" / "README.md")
    assert card.data.datasets == ["org/somewhere"] and f'revision="{ORIGIN["revision"]}"' in card.text
    assert {result.dataset_type for result in card.data.eval_results} == {"org/somewhere"}
    assert ORIGIN.items() <= from_pretrained(str(tmp_path / "bpr")).config.corpus.items()


def test_what_goes_up_of_a_run(run_folder):
    upload = plan_model(run_folder, "org/bpr")
    assert set(upload.files) == {"config.json", "model.safetensors", "README.md", "run.yaml", "metrics.json"}
    assert "checkpoints" in upload.left_out and "log.jsonl" in upload.left_out
    assert "`recipes/train.py`" in upload.files["README.md"].decode()
    assert 'from_pretrained("org/bpr")' in upload.files["README.md"].decode()
    run = yaml.safe_load(upload.files["run.yaml"])
    assert run["data"]["path"] == "somewhere" and run["train"]["output_dir"] == "", "no path of this machine"
    assert json.loads(upload.files["config.json"]) == json.loads((run_folder / "config.json").read_text())
    corpora = plan_model(run_folder, "org/bpr", corpus=ORIGIN)
    assert json.loads(corpora.files["config.json"])["corpus"]["repository"] == "org/somewhere"
    assert yaml.safe_load(corpora.files["run.yaml"])["data"] == run["data"] | {
        "path": "org/somewhere",
        "revision": ORIGIN["revision"],
    }


def test_own_words_and_the_licence_stay_in_a_models_card(run_folder):
    card = run_folder / "README.md"
    card.write_text(card.read_text() + "\nMy own words.\n")
    other = check_license("other", "my-terms", "https://example.org/terms")
    write_model_card(run_folder, other, ORIGIN)
    write_model_card(run_folder)
    assert card.read_text().split(KEPT)[1].strip() == "My own words."
    data = ModelCard.load(card).data
    assert (data.license, data.license_name, data.license_link) == ("other", "my-terms", "https://example.org/terms")
    assert plan_model(run_folder, "org/bpr").files["README.md"].decode().endswith("My own words.\n")


def test_a_model_of_joined_corpora(run_folder, tmp_path):
    for file in run_folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    run = yaml.safe_load((tmp_path / "run.yaml").read_text())
    run["data"]["joined"] = [str(tmp_path / "second")]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    config = json.loads((tmp_path / "config.json").read_text())
    config["corpus"]["name"] = "first+second"
    (tmp_path / "config.json").write_text(json.dumps(config))
    upload = plan_model(tmp_path, "org/joined")
    assert "['FOLDER_OF_first', 'FOLDER_OF_second']" in upload.files["README.md"].decode()
    assert yaml.safe_load(upload.files["run.yaml"])["data"]["joined"] == ["second"]


def test_a_card_the_hub_would_refuse_is_found_before(tmp_path):
    CASES["sasrec"].corpus().save(tmp_path)
    plan_corpus(tmp_path, "org/corpus", check_license("mit"))
    record = read_record(tmp_path)
    assert "size_categories:\n- n<1K\n" in card_text(tmp_path, record)
    record["protocols"]["leave_one_out"]["rows"]["train"] = 123_456_789
    assert "size_categories:\n- 100M<n<1B\n" in card_text(tmp_path, record)
    record["protocols"]["leave_one_out"]["rows"]["train"] = 10**13
    assert "size_categories:\n- n>1T\n" in card_text(tmp_path, record)
    record["license"] = {"license": "no such licence"}
    (tmp_path / "corpus.json").write_text(json.dumps(record | read_record(tmp_path) | {"license": record["license"]}))
    with pytest.raises(ValueError, match="licence 'no such licence' is not one of the Hub's identifiers"):
        plan_corpus(tmp_path, "org/corpus")


def test_licences():
    assert {"cc-by-4.0", "odc-by", "cdla-permissive-2.0", "fair-noncommercial-research-license", "other"} <= LICENSES
    assert check_license("mit") == {"license": "mit"}
    with pytest.raises(ValueError, match="did you mean 'apache-2.0'"):
        check_license("apache2")
    with pytest.raises(ValueError, match=r"cc-by-4\.0, .*other"):
        check_license("")
    assert check_license("other", "a-1.0", "LICENSE.md")["license_link"] == "LICENSE.md"


def test_patterns_of_a_corpus_name_what_was_asked_for():
    assert corpus_files("ratio", ("text",))[-4:] == ["items/*", "users/*", "ratio/*", "text/*"]
    assert not any(name.startswith("leave_one_out") for name in corpus_files())


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        from_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="'bert' is not registered"):
        from_pretrained(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="form org/name"):
        local_folder("./nowhere/at/all")
    with pytest.raises(FileNotFoundError, match="it cannot be a repository's name"):
        local_folder("org/no where")
    with pytest.raises(FileNotFoundError, match="no model repository org/nowhere in the cache, and HF_HUB_OFFLINE=1"):
        local_folder("org/nowhere")
