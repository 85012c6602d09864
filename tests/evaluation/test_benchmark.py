"""The benchmark and recommend recipes on a small corpus: the table, resuming, and what is refused."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from seqmm.arguments import DataArguments
from seqmm.bench import cell as cells_module
from seqmm.bench import plan as planning
from seqmm.bench.probes import tie_report
from seqmm.data.corpus import Corpus
from seqmm.data.synthetic import synthetic_corpus
from seqmm.evaluation.evaluator import Evaluator
from seqmm.files import read_yaml, write_yaml
from seqmm.models.checkpoint import from_pretrained, load_config
from seqmm.models.making import make_model
from seqmm.run.opening import open_corpus
from seqmm.run.variants import reference
from tests.evaluation.test_leakage import item_sorted

SMALL = {"hidden_size": 16, "max_length": 8, "num_layers": 1, "inner_size": 16}
MODELS = {
    "sasrec": SMALL,
    "lightgcn": {"hidden_size": 16},
}


def configuration(folder: Path, model_type: str, corpus: Path, protocol: str = "leave_one_out", **train) -> str:
    folder.mkdir(exist_ok=True)
    values = {
        "model": {"model_type": model_type} | MODELS[model_type],
        "data": {"path": str(corpus), "protocol": protocol},
        "train": {"epochs": 2, "batch_size": 64} | train,
    }
    write_yaml(folder / f"{model_type}.yaml", values)
    return str(folder / f"{model_type}.yaml")


@pytest.fixture
def recipe(repository, monkeypatch):
    def run(name: str, *arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        try:
            runpy.run_path(str(repository / "recipes" / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    corpus = synthetic_corpus(num_users=80, num_items=50)
    corpus.save(tmp_path / "corpus")
    return corpus


def test_table_resumes_and_agrees_with_the_evaluator(tmp_path, recipe, corpus, monkeypatch, capsys):
    files = [configuration(tmp_path / "small", name, tmp_path / "corpus") for name in MODELS]
    output = tmp_path / "out"
    command = ["benchmark", "--runs", *files, "--seeds", 0, 1, "--output", output, "--ks", 5, 10]
    assert recipe(*command) == 0
    text, values = (output / "results.md").read_text(), json.loads((output / "metrics.json").read_text())
    assert "mask = history" in text
    for name in ("small/sasrec", "small/lightgcn", "popularity", "probe: index order", "users renumbered"):
        assert name in text
    assert [row["label"] for row in values["rows"]] == ["small/sasrec", "small/lightgcn", "popularity"]
    assert [row["seeds"] for row in values["rows"]] == [[0, 1], [0, 1], [0]]
    assert values["mask"] == "history"
    assert values["baseline"] in ("small/lightgcn", "popularity")

    # a cell is what the evaluator says of its checkpoint
    found = []
    for seed in (0, 1):
        model = from_pretrained(str(output / "runs" / f"small-lightgcn-seed{seed}")).bind(corpus)
        evaluator = Evaluator(corpus, "test", ks=(5, 10))
        found.append(evaluator(Accelerator(cpu=True), model)["recall@10"])
        saved = np.load(output / "per_user" / f"small-lightgcn-seed{seed}.npz")
        np.testing.assert_array_equal(saved["users"], evaluator.users)
        np.testing.assert_allclose(saved["recall@10"], evaluator.per_user["recall@10"])
    row = values["rows"][1]["test"]["recall@10"]
    assert (row["mean"], row["std"]) == pytest.approx((np.mean(found), np.std(found, ddof=1)))

    # finished cells are read; a lost one is made again from its finished run
    def forbidden(*arguments, **options):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr(cells_module.Run, "fit", forbidden)
        assert recipe(*command) == 0
    assert (output / "results.md").read_text() == text
    for lost in ("cells/small-sasrec-seed1.json", "per_user/small-lightgcn-seed0.npz", "results.md", "metrics.json"):
        (output / lost).unlink()  # as if killed before each of them was written
    weights = (output / "runs" / "small-sasrec-seed1" / "model.safetensors").read_bytes()
    assert recipe(*command) == 0
    assert (output / "results.md").read_text() == text
    assert json.loads((output / "metrics.json").read_text()) == values
    assert (output / "runs" / "small-sasrec-seed1" / "model.safetensors").read_bytes() == weights

    # what changes no result may be added to a finished benchmark
    configuration(tmp_path / "small", "sasrec", tmp_path / "corpus", num_workers=1, log_every=7)
    with monkeypatch.context() as patch:
        patch.setattr(cells_module.Run, "fit", forbidden)
        assert recipe(*command) == 0

    # other settings in the same folder are refused
    configuration(tmp_path / "small", "sasrec", tmp_path / "corpus", learning_rate=0.01)
    capsys.readouterr()
    assert recipe(*command) == 2
    error = capsys.readouterr().err
    assert "run.train.learning_rate: 0.001 before, 0.01 now" in error
    assert "Traceback" not in error


def test_run_folders_are_rows_and_recommend(tmp_path, recipe, corpus, capsys):
    file = configuration(tmp_path / "small", "sasrec", tmp_path / "corpus")
    for seed in (0, 1):
        options = ["--train.seed", seed, "--train.output-dir", tmp_path / f"mine-seed{seed}"]
        assert recipe("train", "--config", file, *options) == 0
    runs = [tmp_path / "mine-seed0", tmp_path / "mine-seed1"]
    assert recipe("benchmark", "--runs", *runs, "--output", tmp_path / "out", "--probes", False) == 0
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [(row["label"], row["seeds"]) for row in values["rows"]] == [("mine", [0, 1]), ("popularity", [0])]
    assert not values["probes"]

    capsys.readouterr()
    assert recipe("recommend", "--checkpoint", runs[0], "--user", "user-3", "--k", 4) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "sasrec recommends, of 50 items of synthetic" in shown[1]
    assert len(shown) == 6
    assert shown[2].split()[2] in corpus.item_ids
    assert recipe("recommend", "--checkpoint", runs[0], "--history", "item-3, item-9", "--k", 4) == 0
    assert "a new user had 2 items" in capsys.readouterr().out

    # another corpus, and a truncated checkpoint
    synthetic_corpus(num_users=80, num_items=50, seed=5).save(tmp_path / "other")
    (tmp_path / "new.jsonl").write_text('{"id": "x"}')
    elsewhere = configuration(tmp_path / "elsewhere", "lightgcn", tmp_path / "other")
    refused = {
        "was trained on 'synthetic'": [
            "recommend",
            "--checkpoint",
            runs[0],
            "--user",
            "user-3",
            "--corpus",
            tmp_path / "other",
        ],
        "one table holds one corpus": ["benchmark", "--runs", runs[0], elsewhere, "--output", tmp_path / "b"],
        "K = 51 is larger than the catalogue": [
            "benchmark",
            "--runs",
            runs[0],
            "--ks",
            10,
            51,
            "--output",
            tmp_path / "c",
        ],
        "--monitor ndcg@10 must be": ["benchmark", "--runs", runs[0], "--ks", 5, "--output", tmp_path / "c"],
        "no finished run": ["benchmark", "--runs", tmp_path, "--output", tmp_path / "c"],
        "has no user 'Bob'": ["recommend", "--checkpoint", runs[0], "--user", "Bob"],
        "sasrec reads no content": ["recommend", "--checkpoint", runs[0], "--new-items", tmp_path / "new.jsonl"],
        "for whom?": ["recommend", "--checkpoint", runs[0]],
    }
    for message, command in refused.items():
        assert recipe(*command) == 2, message
        assert message in capsys.readouterr().err
    weights = runs[1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert recipe("recommend", "--checkpoint", runs[1], "--user", "user-3") == 2
    assert "truncated or damaged" in capsys.readouterr().err
    assert recipe("benchmark", "--runs", *runs, "--output", tmp_path / "out") == 2
    assert "truncated or damaged" in capsys.readouterr().err
    weights.write_bytes((runs[0] / "model.safetensors").read_bytes())
    assert recipe("benchmark", "--runs", *runs, "--output", tmp_path / "out") == 2
    assert "made with other settings (weights" in capsys.readouterr().err


def test_a_sample_of_users_is_said_and_is_part_of_the_cell(tmp_path, recipe, corpus, capsys):
    file = configuration(tmp_path / "small", "lightgcn", tmp_path / "corpus")
    values = read_yaml(file)
    write_yaml(Path(file), values | {"eval": {"max_users": 20}})
    command = ["benchmark", "--runs", file, "--output", tmp_path / "out", "--probes", False]
    assert recipe(*command) == 0
    sample = "validation on 20 of 80 users"
    assert f"{sample} chooses the weights" in capsys.readouterr().out
    assert f"The weights of small/lightgcn were chosen by {sample}" in (tmp_path / "out" / "results.md").read_text()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert [row["cells"][0]["validation_users"] for row in metrics["rows"]] == [sample, None]
    run = tmp_path / "out" / "runs" / "small-lightgcn-seed0"
    assert json.loads((run / "metrics.json").read_text())["validation_users"] == sample
    assert f"- weights chosen by {sample}" in (run / "README.md").read_text()
    assert read_yaml(run / "run.yaml")["eval"]["max_users"] == 20
    # the table's own validation and test are of everyone; another sample, ideal, cut-off or metric is another cell
    assert len(np.load(tmp_path / "out" / "per_user" / "small-lightgcn-seed0.npz")["users"]) == 80
    changes = {"max_users": 30, "ideal": "retrieved", "ks": [5, 10], "metrics": ["recall", "ndcg", "mrr"]}
    for key, other in changes.items():
        write_yaml(Path(file), values | {"eval": {"max_users": 20} | {key: other}})
        assert recipe(*command) == 2
        assert f"small-lightgcn-seed0 made with other settings (run.eval.{key}" in capsys.readouterr().err


def test_a_leak_is_said(tmp_path, recipe):
    for order in ("source", "permuted"):
        item_sorted(order, num_users=1500, num_items=800).save(tmp_path / order)
        file = configuration(tmp_path / "small", "lightgcn", tmp_path / order, protocol="given", epochs=1)
        assert recipe("benchmark", "--runs", file, "--output", tmp_path / f"{order}-out") == 0
        values = json.loads((tmp_path / f"{order}-out" / "metrics.json").read_text())
        assert ("**Leak:**" in (tmp_path / f"{order}-out" / "results.md").read_text()) == (order == "source")
        assert (values["probes"][0]["z"] > 4) == (order == "source")
        assert values["mask"] == "train"


@pytest.mark.parametrize(
    "step, said", [(1, "no user's last one does."), (0, "of 30 users whose last one ties, it has ")]
)
def test_ties_are_reported(tmp_path, step, said):
    corpus = synthetic_corpus(30, 20)
    splits = {name: replace(part, timestamp=step * part.position) for name, part in corpus.splits.items()}
    timed = replace(corpus, splits=splits, features={})
    timed.save(tmp_path / "c", item_columns={"source_index": list(range(20))})
    report = tie_report(timed, DataArguments(path=str(tmp_path / "c")))
    share = "0.0%" if step else "100.0%"
    assert report is not None and report.startswith(f"Ties: {share} of neighbouring interactions share a time; {said}")


def msm4sr(file: Path, corpus: Path, **train) -> str:
    write_yaml(
        file,
        {
            "model": {"model_type": "msm4sr", "num_experts": 2} | SMALL,
            "data": {"path": str(corpus), "features": ["text", "image"]},
            "train": {"epochs": 1, "batch_size": 32} | train,
        },
    )
    return str(file)


def test_a_two_stage_row_is_pretrained_first(tmp_path, recipe, corpus, monkeypatch, capsys):
    first = msm4sr(tmp_path / "first.yaml", tmp_path / "corpus", objective="pretraining")
    second = msm4sr(tmp_path / "second.yaml", tmp_path / "corpus", init_from=first)
    command = ["benchmark", "--seeds", 0, 1, "--output", tmp_path / "out", "--probes", False, "--runs"]
    assert recipe(*command, second) == 0
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())
    label = f"{tmp_path.name}-"
    assert [row["seeds"] for row in values["rows"]] == [[0, 1], [0]]
    for seed in (0, 1):
        start = tmp_path / "out" / "runs" / f"{label}first-pretraining-seed{seed}"
        run = read_yaml(start / "run.yaml")
        assert (run["train"]["seed"], run["train"]["objective"]) == (seed, "pretraining")
        fine = tmp_path / "out" / "runs" / f"{label}second-seed{seed}"
        assert read_yaml(fine / "run.yaml")["train"]["init_from"] == str(start)
        assert load_config(fine).pretrained_on["checkpoint"] == str(start)

    # a row that is lost or new starts from the pretraining that is there; a run folder takes --corpus
    weights = (start / "model.safetensors").read_bytes()
    third = msm4sr(tmp_path / "third.yaml", tmp_path / "corpus", init_from=first, learning_rate=0.01)
    steps = (start / "log.jsonl").read_text().count("loss")
    assert recipe(*command, second, third) == 0
    assert (start / "model.safetensors").read_bytes() == weights
    assert (start / "log.jsonl").read_text().count("loss") == steps > 0
    (tmp_path / "corpus").rename(tmp_path / "moved")
    moved = [*command[:3], "--output", tmp_path / "out2", "--probes", False, "--corpus", tmp_path / "moved", "--runs"]
    assert recipe(*moved, fine) == 0
    rows = json.loads((tmp_path / "out2" / "metrics.json").read_text())["rows"]
    assert [row["label"] for row in rows] == [f"{label}second", "popularity"]
    assert rows[0]["cells"][0]["test"] == values["rows"][0]["cells"][1]["test"]
    (tmp_path / "moved").rename(tmp_path / "corpus")

    # what a row was made from is checked: the pretraining's settings, the features' rows
    msm4sr(tmp_path / "first.yaml", tmp_path / "corpus", objective="pretraining", learning_rate=0.01)
    capsys.readouterr()
    assert recipe(*command, second) == 2
    assert "pretraining.run.train.learning_rate: 0.001 before, 0.01 now" in capsys.readouterr().err
    msm4sr(tmp_path / "first.yaml", tmp_path / "corpus", objective="pretraining")
    text = corpus.features["text"]
    replace(corpus, features={"text": replace(text, values=text.values + 1)}).save(tmp_path / "corpus")
    assert recipe(*command, second) == 2
    assert "features.text.sha256" in capsys.readouterr().err
    assert recipe(*command, first) == 2
    error = capsys.readouterr().err
    assert "is for pretraining" in error and "_finetune.yaml: train.init_from" in error


def test_weights_a_row_starts_from_are_part_of_it(tmp_path, corpus):
    file = msm4sr(tmp_path / "fine.yaml", tmp_path / "corpus", init_from=str(tmp_path / "start"))
    (tmp_path / "start").mkdir()
    (cell,) = planning.plan([file], [0], tmp_path / "out", None)
    assert cell.pretraining is None and cell.run.train.init_from == str(tmp_path / "start")
    digests = []
    for content in (b"a", b"b"):
        (tmp_path / "start" / "model.safetensors").write_bytes(content)
        digests.append(cells_module._made_from(cell, corpus)["weights"])
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("name", "label"),
    [("a-seed0", "a"), ("a_seed12", "a"), ("a-s3", "a"), ("ml-100k", "ml-100k"), ("bpr2", "bpr2"), ("bias5", "bias5")],
)
def test_only_a_seed_is_left_out_of_a_label(tmp_path, corpus, name, label):
    folder = tmp_path / name
    make_model("popularity", corpus).save_pretrained(folder)
    write_yaml(folder / "run.yaml", {"model": {"model_type": "popularity"}, "data": {"path": "gone", "revision": "v1"}})
    (cell,) = planning.plan([str(folder)], [0], tmp_path, "here")
    assert cell.label == label
    for data in (cell.run.data, planning.popularity(cell, tmp_path).run.data):
        assert (data.path, data.revision) == ("here", None)


def test_the_popularity_row_opens_the_corpus_of_a_row_that_renames_sets(tmp_path, corpus):
    corpus.save(tmp_path / "here")
    file = configuration(tmp_path / "a", "lightgcn", tmp_path / "here")
    values = read_yaml(file)
    write_yaml(Path(file), values | {"data": values["data"] | {"rename": ["text=words"]}})
    (cell,) = planning.plan([file], [0], tmp_path / "out", str(tmp_path / "here"))
    assert cell.run.data.rename == ("text=words",)
    assert open_corpus(planning.popularity(cell, tmp_path).run.data)[0].num_items > 0


def test_one_precision(tmp_path, recipe, corpus, capsys):
    files = [
        configuration(tmp_path / "half", "lightgcn", tmp_path / "corpus", mixed_precision="bf16", epochs=1),
        configuration(tmp_path / "full", "lightgcn", tmp_path / "corpus", epochs=1),
    ]
    assert recipe("benchmark", "--runs", *files, "--output", tmp_path / "out") == 2
    assert "train.mixed_precision must be the same in all YAML files" in capsys.readouterr().err
    AcceleratorState._reset_state(reset_partial_state=True)  # a process has one precision
    try:
        assert recipe("benchmark", "--runs", files[0], "--output", tmp_path / "out") == 0
        assert AcceleratorState().mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_every_finetuning_of_the_repository_names_its_pretraining(repository, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # found in the repository
    configs = repository / "recipes" / "configs" / "msm4sr"
    files = sorted(str(file) for file in configs.glob("*finetune*.yaml"))
    cells = planning.plan(files, [3], tmp_path, None, ["all"])
    assert len(cells) > 2 * len(files) > 8
    scratch = {"without_pretraining", "end_to_end"}
    for cell in cells:
        first, (file, variant) = cell.pretraining, reference(cell.source)
        assert (first is None) == (variant in scratch)
        if first is None:
            continue
        assert first.run.train.seed == cell.run.train.seed == 3
        assert first.run.data.features == cell.run.data.features and first.run.data.protocol == cell.run.data.protocol
        assert first.run.data == cell.run.data or first.run.data.joined  # pretrained elsewhere
        before, part = reference(first.source)
        assert part in (None, variant)
        if not first.run.data.joined:
            assert Path(file).stem == f"{Path(before).stem}_finetune"
        command = Path(file).read_text().splitlines()[0]
        folder = read_yaml(before)["train"].get("output_dir", f"runs/msm4sr-{Path(first.run.data.path).name}-pretrain")
        named = Path(before).read_text().splitlines()[0].partition("--train.output-dir ")[2]
        assert f"--train.init-from {named or folder}" in command


def test_what_would_push_is_refused(tmp_path, corpus):
    file = tmp_path / "pushed.yaml"
    write_yaml(file, {"model": {"model_type": "bpr"}, "data": {"path": "x"}, "hub": {"push_to": "org/m"}}, "")
    with pytest.raises(
        ValueError, match=r"pushed.yaml: hub.push_to org/m, but a benchmark trains several and pushes none"
    ):
        planning.plan([str(file)], (0, 1), tmp_path / "out", None)


def test_a_sweep_is_a_row_for_each_combination(tmp_path, corpus):
    file = Path(configuration(tmp_path / "lightgcn", "lightgcn", tmp_path / "corpus"))
    values = read_yaml(file) | {"sweep": [{"model.num_layers": [1, 2], "train.batch_size": [32]}]}
    write_yaml(file, values)
    cells = planning.plan([str(file)], (0, 1), tmp_path / "out", None)
    assert [(cell.label, cell.seed, cell.run.model.num_layers) for cell in cells] == [
        (f"lightgcn/lightgcn num_layers={layers} batch_size=32", seed, layers) for layers in (1, 2) for seed in (0, 1)
    ]
    assert len({cell.run.train.output_dir for cell in cells}) == 4


def test_variants_are_rows_beside_their_file(tmp_path, recipe, corpus, capsys, caplog):
    first = Path(msm4sr(tmp_path / "first.yaml", tmp_path / "corpus", objective="pretraining"))
    write_yaml(first, read_yaml(first) | {"variants": {"without_mixup": {"model.mixup": 0.0}}})
    second = Path(msm4sr(tmp_path / "second.yaml", tmp_path / "corpus", init_from=str(first)))
    variants = {
        "scratch": {"train.init_from": None},
        "text": {"model.modalities": ["text"]},
        "without_mixup": {"train.init_from": f"{first}#without_mixup"},
        "elsewhere": {"data.path": "corpora/other"},
    }
    write_yaml(second, read_yaml(second) | {"variants": variants})
    command = ["benchmark", "--runs", second, "--probes", False, "--output", tmp_path / "out", "--variants"]
    assert recipe(*command, "all") == 0
    assert "second.yaml: elsewhere left out: one table holds one corpus" in caplog.text
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]
    label = f"{tmp_path.name}/second"
    names = [label, f"{label} scratch", f"{label} text", f"{label} without_mixup", "popularity"]
    assert [row["label"] for row in rows] == names
    first_runs = ["first-pretraining", "first-without_mixup-pretraining"]
    second_runs = ["second", "second-scratch", "second-text", "second-without_mixup"]
    runs = {name: tmp_path / "out" / "runs" / f"{tmp_path.name}-{name}-seed0" for name in [*first_runs, *second_runs]}
    settings = {name: read_yaml(folder / "run.yaml") for name, folder in runs.items()}
    assert [settings[name]["model"]["mixup"] for name in first_runs] == [0.5, 0.0]
    starts = [settings[name]["train"]["init_from"] for name in second_runs]
    before, other = str(runs["first-pretraining"]), str(runs["first-without_mixup-pretraining"])
    assert starts == [before, None, before, other]
    assert settings["second-text"]["model"]["modalities"] == ["text"]
    text = (runs["second-text"] / "run.yaml").read_text()
    assert f"recipes/finetune.py --config {second} --variant text" in text

    # one alone, by its name: from the same folder, and trained no second time
    log = (runs["second-text"] / "log.jsonl").read_bytes()
    assert recipe("benchmark", "--runs", f"{second}#text", "--probes", False, "--output", tmp_path / "out") == 0
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text())["rows"]
    assert [row["label"] for row in rows] == [f"{label} text", "popularity"]
    assert (runs["second-text"] / "log.jsonl").read_bytes() == log
    assert recipe(*command, "txt") == 2
    assert f"--variants txt: none of the files has it; did you mean 'text'? ({second})" in capsys.readouterr().err


def test_variants_of_several_files(tmp_path, corpus):
    files = [configuration(tmp_path / name, "lightgcn", tmp_path / "corpus") for name in ("a", "b", "c")]
    for file in files[:2]:
        deep = {"deep": {"model.num_layers": 4}, "wide": {"model.hidden_size": 32}}
        write_yaml(Path(file), read_yaml(file) | {"variants": deep})

    def labels(sources, *variants, corpus=None):
        return [cell.label for cell in planning.plan(sources, [0], tmp_path / "out", corpus, variants)]

    assert labels(files, "deep") == ["a/lightgcn", "a/lightgcn deep", "b/lightgcn", "b/lightgcn deep", "c/lightgcn"]
    assert labels(files, "all")[:3] == ["a/lightgcn", "a/lightgcn deep", "a/lightgcn wide"]
    assert labels([f"{files[0]}#wide", files[1]], "deep") == ["a/lightgcn wide", "b/lightgcn", "b/lightgcn deep"]
    for sources, name in ((files[2:], "all"), (files[2:], "deep"), ([f"{files[0]}#wide"], "deep")):
        with pytest.raises(ValueError, match=f"`variants` {name}: none of the files has it"):
            labels(sources, name)
    swept = read_yaml(files[0]) | {"sweep": [{"model.num_layers": [1, 2]}]}
    write_yaml(Path(files[0]), swept)
    rows = ["a/lightgcn num_layers=1", "a/lightgcn num_layers=2"]
    assert labels(files[:1]) == rows
    assert labels(files[:1], "wide") == [*rows, "a/lightgcn wide"]
    assert labels([f"{files[0]}#num_layers=2"]) == rows[1:]

    # the same run under two names, since the benchmark gives the seed and the corpus
    for point, place in (({"train.seed": 3}, None), ({"data.path": "x"}, "y")):
        write_yaml(Path(files[2]), read_yaml(files[2]) | {"variants": {"twin": point}})
        with pytest.raises(ValueError, match=r"twin.* same run"):
            labels(files[2:], "twin", corpus=place)


def test_a_variant_trained_alone_has_a_folder_of_its_own(tmp_path, recipe, corpus, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = configuration(tmp_path / "small", "lightgcn", tmp_path / "corpus", epochs=1)
    write_yaml(Path(file), read_yaml(file) | {"variants": {"deep": {"model.num_layers": 4}}})
    assert recipe("train", "--config", file, "--variant", "deep", "--train.seed", 1) == 0
    run = Path("runs/lightgcn-synthetic-train-deep/run.yaml")
    settings = read_yaml(run)
    assert (settings["model"]["num_layers"], settings["train"]["seed"], "variants" in settings) == (4, 1, False)
    assert f"recipes/train.py --config {file} --variant deep" in run.read_text()
    assert recipe("train", "--config", file, "--variant", "deeper") == 2
    assert f"{file}: there is no variant 'deeper'; did you mean 'deep'?" in capsys.readouterr().err
    assert recipe("finetune", "--config", file, "--train.init-from", f"{file}#deep") == 2
    assert f"run recipes/pretrain.py --config {file} --variant deep first" in capsys.readouterr().err
