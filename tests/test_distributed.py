"""1 process = N processes: the collectives by hand, and every trained model in two real processes over gloo."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from seqmm.distributed import gather_rows, mean_over_ranks, sum_over_ranks
from tests.cases import SLOW


def _rank(rank, path, sizes):
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=len(sizes))
    whole = torch.arange(sum(sizes) * 3, dtype=torch.float64).reshape(-1, 3).sin()
    start = sum(sizes[:rank])
    x = whole[start : start + sizes[rank]].clone().requires_grad_()
    rows = gather_rows(x)
    assert torch.equal(rows, whole)
    labels = gather_rows(torch.arange(start, start + sizes[rank]))
    assert torch.equal(labels, torch.arange(len(whole)))
    weight = whole.new_tensor([0.5, -1.0, 2.0], requires_grad=True)  # a replicated parameter

    def loss(rows, own, weight, mean, total):
        scores = rows @ rows.T * weight.sum()
        return torch.logsumexp(scores, 1).mean() + mean((own @ weight).square()) + total((own**2).sum()).sqrt()

    ours = loss(rows, x, weight, mean_over_ranks, sum_over_ranks)
    ours.backward()
    dist.all_reduce(weight.grad)  # DDP's average
    reference = whole.clone().requires_grad_()
    w = weight.detach().clone().requires_grad_()
    expected = loss(reference, reference, w, lambda v: v.float().mean(), lambda v: v)
    expected.backward()
    assert torch.allclose(ours.double(), expected.double(), atol=1e-6)
    assert torch.allclose(weight.grad / len(sizes), w.grad, atol=1e-6)
    assert torch.allclose(x.grad / len(sizes), reference.grad[start : start + sizes[rank]], atol=1e-6)
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "sizes", [pytest.param((4, 4), marks=pytest.mark.slow), (5, 2), pytest.param((3, 0), marks=pytest.mark.slow)]
)
def test_collectives_give_the_single_process_loss_and_gradient(tmp_path, sizes):
    mp.spawn(_rank, args=(tmp_path / "store", sizes), nprocs=len(sizes))


def test_an_empty_batch_is_an_error():
    with pytest.raises(ValueError, match="no target"):
        mean_over_ranks(torch.zeros(3), torch.zeros(3, dtype=torch.bool))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, repository):
    """The slow cases with 1 and with 2 processes, 2 epochs of SGD, with a batch of 27 and a short last one."""
    output = tmp_path_factory.mktemp("runs")
    script = str(repository / "tests" / "train_cases.py")
    two = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(repository / "recipes/accelerate/cpu_2.yaml"),
    ]
    for processes, command in ((1, [sys.executable]), (2, two)):
        done = subprocess.run(
            [*command, script, output, str(processes), *SLOW], capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if "[rank0]" in line)
    return [torch.load(output / f"{processes}.pt", weights_only=True) for processes in (1, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_one_process_equals_two(runs, name):
    one, two = runs[0][name], runs[1][name]
    assert len(one["losses"]) == len(two["losses"]) > 4
    for step, (a, b) in enumerate(zip(one["losses"], two["losses"], strict=True)):
        assert a == pytest.approx(b, rel=1e-5, abs=1e-6), f"step {step}"
    for key, value in one["parameters"].items():
        torch.testing.assert_close(
            two["parameters"][key], value, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )
    assert one["metrics"] == pytest.approx(two["metrics"], abs=1e-4)
