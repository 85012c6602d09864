"""A checkpoint is loaded whole or refused: each tensor that is missing, unknown, misshapen or not finite is named."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import seqmm
from seqmm.models.checkpoint import from_pretrained, load_config
from seqmm.models.collaborative.bpr import BPR
from seqmm.models.weights import MADE_BY
from seqmm.training.weights import load_weights
from tests.cases import CASES

WEIGHTED = [name for name, case in CASES.items() if case.model_type not in ("popularity", "item_knn")]
SLOW = [name for name in WEIGHTED if not CASES[name].slow]
SIZES = {"num_users": 40, "num_items": 30}


def mutations(weights, everything):
    """``(what, tensors)`` of every kind, for the tensor in the middle, or for each."""
    keys = sorted(weights)
    chosen = keys if everything else [keys[len(keys) // 2]]
    for key in chosen:
        value = weights[key]
        rest = {name: each for name, each in weights.items() if name != key}
        yield key, rest
        yield key, rest | {f"{key}_of_old": value}
        yield f"{key} is", rest | {key: value[None].clone()}
        if value.ndim and value.shape[0] > 1:
            yield f"{key} is", rest | {key: value[1:].clone()}
        if value.is_floating_point() and value.numel():
            for wrong in (torch.nan, torch.inf, -torch.inf):
                damaged = value.clone()
                damaged.view(-1)[-1] = wrong
                yield f"{key}[", rest | {key: damaged}


def check_all_refused(name, folder, everything):
    case = CASES[name]
    case.model(case.corpus()).save_pretrained(folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights = {key: value.clone() for key, value in weights.items()}
    count = 0
    for said, tensors in mutations(weights, everything):
        save_file(tensors, file)
        with pytest.raises(ValueError) as refused:
            from_pretrained(str(folder))
        text = str(refused.value)
        assert str(file) in text and said in text and "\n" not in text, (said, text)
        count += 1
    save_file(weights, file)
    assert set(from_pretrained(str(folder)).state_dict()) == set(weights), "the same tensors, unharmed, are loaded"
    return count


# one case a model type: the rest differ in their options alone
ONE_EACH = list({CASES[name].model_type + str(CASES[name].pretraining): name for name in reversed(WEIGHTED)}.values())


@pytest.mark.parametrize("name", sorted(ONE_EACH))
def test_no_tensor_can_be_missing_unknown_misshapen_or_not_finite(name, tmp_path):
    assert check_all_refused(name, tmp_path, everything=False) >= 5


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", WEIGHTED)
def test_no_tensor_of_any_case_can_be(name, tmp_path):
    assert check_all_refused(name, tmp_path, everything=True) >= 5


@pytest.fixture
def bpr(tmp_path):
    """A bound BPR in ``tmp_path/"bpr"``, its corpus, and its folder."""
    corpus = seqmm.synthetic_corpus(**SIZES)
    model = seqmm.make_model("bpr", corpus, hidden_size=8)
    model.save_pretrained(tmp_path / "bpr")
    return model, corpus, tmp_path / "bpr"


def edit(folder, **changed):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


@pytest.mark.parametrize("load", [lambda place: from_pretrained(str(place)), BPR.from_pretrained])
def test_the_classes_own_loader_refuses_as_well(bpr, load):
    _, _, folder = bpr
    weights = load_file(folder / "model.safetensors")
    save_file({"item.weight": weights["item.weight"].clone()}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors does not hold.*lacks user\.weight"):
        load(folder)


def test_a_twin_s_config_is_another_models(bpr, tmp_path):
    """BPR and LightGCN have tensors of the same names and shapes."""
    _, corpus, folder = bpr
    seqmm.make_model("lightgcn", corpus, hidden_size=8).save_pretrained(tmp_path / "lightgcn")
    for ours, theirs in ((folder, tmp_path / "lightgcn"), (tmp_path / "lightgcn", folder)):
        mixed = tmp_path / f"mixed-{ours.name}"
        shutil.copytree(ours, mixed)
        shutil.copy(theirs / "config.json", mixed)
        with pytest.raises(ValueError, match=rf"model\.safetensors holds weights made with .*{ours.name}"):
            from_pretrained(str(mixed))
    with pytest.raises(ValueError, match="is of a lightgcn, not of a bpr"):
        BPR.from_pretrained(tmp_path / "lightgcn")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_type": "lightgcn"}, r"architectures is \['BPR'\], but a lightgcn is LightGCN"),
        ({"architectures": ["LightGCN"]}, r"architectures is \['LightGCN'\], but a bpr is BPR"),
        ({"architectures": "BPR"}, "architectures is 'BPR'"),
        ({"hidden_size": 16}, r"made with hidden_size 8, but config\.json beside it says 16"),
        ({"num_items": 31}, "made with num_items 30"),
        ({"regularization": 0.5}, "made with regularization 0.1"),
        ({"num_hidden": 3}, "unknown key 'num_hidden'"),
        ({"quantization_config": {"quant_method": "x"}}, "unknown key 'quantization_config'"),
        ({"attn_implementation": "somebody/kernel"}, "unknown key 'attn_implementation'"),
        ({"configuration_files": ["config.4.0.0.json"]}, "unknown key 'configuration_files'"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "unknown key 'auto_map'"),
        ({"hidden_size": "wide"}, r"config\.json: BPRConfig\.hidden_size"),
    ],
)
def test_a_config_that_is_not_the_weights(bpr, changed, message):
    _, _, folder = bpr
    edit(folder, **changed)
    with pytest.raises(ValueError, match=message) as refused:
        from_pretrained(str(folder))
    assert str(folder) in str(refused.value)


def test_sizes_are_told_without_the_signature_as_well(bpr):
    _, _, folder = bpr
    file = folder / "model.safetensors"
    save_file({key: value.clone() for key, value in load_file(file).items()}, file)
    from_pretrained(str(folder))
    edit(folder, hidden_size=16, num_items=10**12)
    with pytest.raises(ValueError, match=r"item\.weight is \(30, 8\), not \(1000000000000, 16\)"):
        from_pretrained(str(folder))


@pytest.mark.parametrize("made", [2, 10**6])
def test_a_newer_format_is_said_to_be_newer(bpr, made):
    _, corpus, folder = bpr
    assert json.loads((folder / "config.json").read_text())["seqmm_format"] == 1
    edit(folder, seqmm_format=made, model_type="of_tomorrow", an_option=True)
    for read in (load_config, lambda place: from_pretrained(str(place)), BPR.from_pretrained):
        with pytest.raises(ValueError, match=rf"config\.json: made by a newer seqmm \(checkpoint format {made}"):
            read(folder)
    with pytest.raises(ValueError, match="made by a newer seqmm"):
        seqmm.make_model("bpr", corpus, init_from=str(folder))


@pytest.mark.parametrize("made", ["1", 0, -1, 1.5, True, None, [1]])
def test_a_format_is_a_number(bpr, made):
    edit(bpr[2], seqmm_format=made)
    with pytest.raises(ValueError, match=r"config\.json: seqmm_format is"):
        from_pretrained(str(bpr[2]))


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "model.ckpt"])
def test_pickles_are_neither_read_nor_passed_over_in_silence(bpr, name, tmp_path, caplog):
    model, corpus, folder = bpr
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    loaded = from_pretrained(str(folder))
    assert torch.equal(loaded.state_dict()["item.weight"], model.state_dict()["item.weight"])
    assert f"{name} is not read, only model.safetensors is" in caplog.text
    (folder / "model.safetensors").unlink()
    for read in (lambda: from_pretrained(str(folder)), lambda: seqmm.make_model("bpr", corpus, init_from=str(folder))):
        with pytest.raises(FileNotFoundError, match=rf"holds no model\.safetensors.*{name} is not read"):
            read()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", ["../elsewhere.safetensors", "/etc/passwd", "model-00001-of-00002.safetensors"])
def test_an_index_of_shards_leads_nowhere(bpr, place):
    _, _, folder = bpr
    shutil.copy(folder / "model.safetensors", folder.parent / "elsewhere.safetensors")
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"item.weight": place, "user.weight": place}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors\.index\.json is not read"):
        from_pretrained(str(folder))


@pytest.mark.parametrize("length", [0, 4, 8, 60, -40, -1])
def test_a_truncated_file_is_named(bpr, length):
    file = bpr[2] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read.*truncated or damaged"):
        from_pretrained(str(bpr[2]))


def test_integers_do_not_pass_for_weights_and_half_precision_does(bpr):
    model, _, folder = bpr
    file = folder / "model.safetensors"
    weights = {key: value.clone() for key, value in load_file(file).items()}
    save_file(weights | {"item.weight": weights["item.weight"].long()}, file)
    with pytest.raises(ValueError, match=r"item\.weight is torch\.int64, not torch\.float32"):
        from_pretrained(str(folder))
    model.half().save_pretrained(folder)
    assert torch.equal(from_pretrained(str(folder)).state_dict()["item.weight"], model.state_dict()["item.weight"])


def test_the_signature_is_of_the_model_and_may_be_absent_or_damaged(bpr):
    _, _, folder = bpr
    file = folder / "model.safetensors"
    weights = {key: value.clone() for key, value in load_file(file).items()}
    for text in ("{", "[" * 10**5, "3", "null", '{"hidden_size": 9}'):
        save_file(weights, file, metadata={MADE_BY: text})
        if text in ("3", "null"):
            from_pretrained(str(folder))
            continue
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            from_pretrained(str(folder))


def test_weights_outlive_their_file(bpr):
    model, _, folder = bpr
    loaded = from_pretrained(str(folder))
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.truncate(0)
    assert torch.equal(loaded.state_dict()["item.weight"], model.state_dict()["item.weight"])


def test_starting_needs_the_whole_checkpoint(tmp_path):
    """Also what finetuning leaves behind: a damaged pretraining is not a pretraining."""
    case = CASES["msm4sr-pretraining"]
    corpus = case.corpus()
    case.model(corpus).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = {key: value.clone() for key, value in load_file(file).items()}
    for key in sorted(weights):
        save_file({name: each for name, each in weights.items() if name != key}, file)
        with pytest.raises(ValueError, match=rf"model\.safetensors.* lacks {key}"):
            seqmm.make_model("msm4sr", corpus, init_from=str(tmp_path), **case.options)
    save_file(weights, file)
    assert seqmm.make_model("msm4sr", corpus, init_from=str(tmp_path), **case.options).config.pretrained_on


def test_a_start_of_another_size_is_refused_and_another_catalogue_is_not(tmp_path):
    corpus, other = seqmm.synthetic_corpus(**SIZES), seqmm.synthetic_corpus(num_users=41, num_items=33, seed=1)
    seqmm.make_model("lightgcn", corpus, hidden_size=8).save_pretrained(tmp_path)
    assert seqmm.make_model("lightgcn", other, hidden_size=8, init_from=str(tmp_path)).config.num_items == 33
    with pytest.raises(ValueError, match=r"other shapes: item\.weight is \(30, 8\), here \(30, 16\)"):
        seqmm.make_model("lightgcn", corpus, hidden_size=16, init_from=str(tmp_path))


@pytest.mark.parametrize(
    "changed",
    [
        {"features": {"a.b": {"kind": "dense", "dim": 3, "provenance": {}}}, "feature_order": ["a.b"]},
        {"features": {"text": 3}, "feature_order": ["text"]},
        {"feature_order": ["nowhere"]},
        {"num_users": -5},
        {"num_users": "many"},
        {"num_items": 2**62},
    ],
)
def test_a_config_of_which_no_model_can_be_made(changed, tmp_path):
    case = CASES["vbpr"]
    case.model(case.corpus()).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({key: value.clone() for key, value in load_file(file).items()}, file)  # unsigned
    edit(tmp_path, **changed)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path))) as refused:
        from_pretrained(str(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_config_that_would_take_for_ever_is_told_by_the_signature(tmp_path):
    case = CASES["sasrec"]
    case.model(case.corpus()).save_pretrained(tmp_path)
    edit(tmp_path, num_layers=10**9)
    with pytest.raises(ValueError, match="made with num_layers 1, but"):
        from_pretrained(str(tmp_path))


def test_a_model_is_saved_in_one_file_and_pushed_by_publishing(bpr, tmp_path):
    model, _, folder = bpr
    with pytest.raises(ValueError, match="seqmm.publish_model"):
        model.save_pretrained(tmp_path / "x", push_to_hub=True)
    model.save_pretrained(folder, max_shard_size="1KB")
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert torch.equal(from_pretrained(str(folder)).state_dict()["user.weight"], model.state_dict()["user.weight"])


def test_the_best_weights_of_a_run_are_checked_as_well(bpr):
    class Alone:
        is_main_process, num_processes = True, 1

    model, _, folder = bpr
    load_weights(Alone(), model, folder)
    file = folder / "model.safetensors"
    save_file({"item.weight": load_file(file)["item.weight"].clone()}, file)
    with pytest.raises(ValueError, match=r"lacks user\.weight"):
        load_weights(Alone(), model, folder)
