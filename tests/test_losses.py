"""Every loss next to its naive formula, values and gradients, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from seqmm.losses import (
    bpr,
    cosine_loss,
    cross_entropy,
    embedding_norm,
    half_squares,
    hinge,
    info_nce,
    jensen_shannon,
    softmax_loss,
    squared_error,
    two_view_info_nce,
    weighted_sum,
)
from seqmm.nn import log_sum_exp as kernel
from seqmm.nn.log_sum_exp import log_sum_exp


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def test_weighted_sum_makes_no_term_of_weight_zero():
    x = rows(3)

    def never():
        raise AssertionError("made")

    found = weighted_sum(
        {
            "one": (1.0, lambda: x[0]),
            "none": (0.0, never),
            "several": (0.5, lambda: {"a": x[1], "b": x[2]}),
        }
    )
    assert list(found) == ["loss", "one", "a", "b"]
    assert torch.equal(found["loss"], x[0] + 0.5 * (x[1] + x[2])) and torch.equal(found["b"], x[2])
    with pytest.raises(ValueError, match="weights of one, other are all 0"):
        weighted_sum({"one": (0.0, never), "other": (0.0, never)})


@pytest.fixture(params=["plain", "blocks", "flash"])
def path(request, monkeypatch):
    """Runs a test through each way the log-sum-exp can be computed."""
    monkeypatch.setattr(kernel, "PLAIN_ELEMENTS", 1 << 40 if request.param == "plain" else 0)
    monkeypatch.setattr(kernel, "BLOCK_ELEMENTS", 100)
    if request.param == "blocks":
        monkeypatch.setattr(kernel, "_flash_is_right", lambda dtype, width: False)
    if request.param == "flash":
        assert kernel._flash_is_right(torch.float64, 7) and kernel._flash_is_right(torch.float32, 64)
    return request.param


def test_bpr_is_the_mean_log_sigmoid():
    positive, negative = rows(6), rows(6, seed=1)
    margins = (positive - negative).tolist()
    sigmoid = [1 / (1 + math.exp(-m)) for m in margins]
    assert bpr(positive, negative).item() == pytest.approx(-sum(math.log(s) for s in sigmoid) / 6)
    assert bpr(positive, negative, 0.1).item() == pytest.approx(-sum(math.log(0.1 + s) for s in sigmoid) / 6)
    torch.autograd.gradcheck(bpr, (positive, negative))


def test_bpr_is_finite_for_hopeless_pairs():
    positive = torch.tensor([-1e4], requires_grad=True)
    loss = bpr(positive, torch.tensor([1e4]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4) and positive.grad.item() == pytest.approx(-1)


def test_embedding_norm_is_unsquared():
    a, b = rows(4, 3), rows(4, 3, seed=1)
    naive = (
        math.sqrt(sum(x * x for x in a.flatten().tolist())) + math.sqrt(sum(x * x for x in b.flatten().tolist()))
    ) / 4
    assert embedding_norm(a, b).item() == pytest.approx(naive)
    torch.autograd.gradcheck(embedding_norm, (a, b))
    zero = torch.zeros(2, 3, requires_grad=True)
    embedding_norm(zero).backward()
    assert (zero.grad == 0).all()


@pytest.mark.parametrize("scale", [0.3, 5.0])
def test_log_sum_exp_matches_the_naive_formula(path, scale):
    query, table = rows(23, 7), rows(41, 7, seed=1)
    naive = torch.stack([torch.stack([(scale * q @ t).exp() for t in table]).sum().log() for q in query])
    assert torch.allclose(log_sum_exp(query, table, scale), naive)
    weight = rows(23, seed=2).detach()  # gradients of both signs
    expected = torch.autograd.grad((naive * weight).sum(), (query, table))
    found = torch.autograd.grad((log_sum_exp(query, table, scale) * weight).sum(), (query, table))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_log_sum_exp_takes_a_bias_for_each_pair(monkeypatch):
    monkeypatch.setattr(kernel, "BLOCK_ELEMENTS", 100)  # several blocks
    query, table = rows(23, 7), rows(41, 7, seed=1)
    bias = rows(23, 41, seed=2).detach().masked_fill(rows(23, 41, seed=3) > 0.5, -torch.inf)
    bias[4] = -torch.inf  # nothing is left of this row
    found = log_sum_exp(query, table, 2.0, lambda part: bias[part])
    kept = [row for row in range(23) if row != 4]
    naive = torch.stack([(2 * query[row] @ table.T + bias[row]).exp().sum().log() for row in kept])
    assert torch.allclose(found[kept], naive) and found[4] == -torch.inf
    expected = torch.autograd.grad(naive.sum(), (query, table))
    for one, other in zip(torch.autograd.grad(found.sum(), (query, table)), expected, strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def test_log_sum_exp_survives_large_logits(path):
    query, table = rows(5, 8, dtype=torch.float32), rows(9, 8, seed=1, dtype=torch.float32)
    found = log_sum_exp(query, table, 500.0)
    exact = (500 * query.double() @ table.double().T).logsumexp(-1)
    assert torch.allclose(found.double(), exact, rtol=1e-5)
    found.sum().backward()
    assert query.grad.isfinite().all() and table.grad.isfinite().all()


def test_log_sum_exp_takes_no_rows_and_half_precision(path):
    table = rows(41, 7)
    log_sum_exp(rows(0, 7), table).sum().backward()
    assert (table.grad == 0).all()
    assert log_sum_exp(rows(3, 7).bfloat16(), table.bfloat16()).dtype == torch.float32


def test_a_wrong_private_kernel_is_not_used(monkeypatch):
    kernel._flash_is_right.cache_clear()
    flash = kernel._flash
    monkeypatch.setattr(kernel, "_flash", lambda *args, **kwargs: (flash(*args, **kwargs)[0], args[0].sum(-1)))
    assert not kernel._flash_is_right(torch.float64, 7)
    monkeypatch.setattr(kernel, "PLAIN_ELEMENTS", 0)
    query, table = rows(3, 7), rows(5, 7, seed=1)
    assert torch.allclose(log_sum_exp(query, table), (query @ table.T).logsumexp(-1))
    kernel._flash_is_right.cache_clear()


def test_softmax_loss_is_cross_entropy(path):
    query, table, target = rows(6, 4), rows(9, 4, seed=1), torch.tensor([0, 8, 3, 3, 1, 5])
    expected = F.cross_entropy(query @ table.T / 0.2, target)
    found = softmax_loss(query, table, target, 0.2)
    assert torch.allclose(found, expected)
    for one, other in zip(
        torch.autograd.grad(found, (query, table)), torch.autograd.grad(expected, (query, table)), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-10)


def test_softmax_loss_without_a_target_is_an_error():
    with pytest.raises(ValueError, match="no target"):
        softmax_loss(rows(0, 4), rows(9, 4), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("whole_table", [False, True])
def test_info_nce_matches_the_loop(path, whole_table):
    a, b, table = rows(5, 4), rows(5, 4, seed=1), rows(11, 4, seed=2)
    candidates = table if whole_table else b

    def cosine(x, y):
        return x @ y / (x.norm() * y.norm())

    terms = []
    for one, other in zip(a, b, strict=True):
        total = torch.stack([(cosine(one, c) / 0.2).exp() for c in candidates]).sum()
        terms.append(-((cosine(one, other) / 0.2).exp() / total).log())
    expected = torch.stack(terms).mean()
    found = info_nce(a, b, 0.2, table if whole_table else None)
    assert torch.allclose(found, expected)
    inputs = (a, b, table) if whole_table else (a, b)
    for x, y in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        assert torch.allclose(x, y, atol=1e-10)


def test_pointwise_and_hinge_losses_match_their_loops():
    positive, negative = rows(6), rows(6, seed=1)
    p, n = positive.tolist(), negative.tolist()
    assert hinge(positive, negative).item() == pytest.approx(
        sum(max(0, 1 - a + b) for a, b in zip(p, n, strict=True)) / 6
    )
    assert squared_error(positive, negative).item() == pytest.approx(
        (sum((a - 1) ** 2 for a in p) + sum(b**2 for b in n)) / 12
    )
    cross = -sum(math.log(1 / (1 + math.exp(-a))) for a in p) - sum(math.log(1 - 1 / (1 + math.exp(-b))) for b in n)
    assert cross_entropy(positive, negative).item() == pytest.approx(cross / 12)
    for loss in (hinge, squared_error, cross_entropy):
        torch.autograd.gradcheck(loss, (positive, negative))


def test_half_squares_and_cosine_loss_are_means_over_rows():
    a, b = rows(4, 3), rows(4, 3, seed=1)
    assert half_squares(a, b).item() == pytest.approx(0.5 * float((a.square().sum() + b.square().sum()).detach()) / 4)
    cosines = [float((x @ y / x.norm() / y.norm()).detach()) for x, y in zip(a, b, strict=True)]
    assert cosine_loss(a, b).item() == pytest.approx(1 - sum(cosines) / 4)


def _cosine(x, y):
    return float((x @ y / x.norm() / y.norm()).detach())


@pytest.mark.parametrize("whole", [False, True])
def test_two_view_info_nce_matches_the_loop(path, whole):
    a, b = rows(11, 5), rows(11, 5, seed=1)
    terms = []
    for j in range(11):
        hit = math.exp(_cosine(a[j], b[j]) / 0.3)
        others = sum(math.exp(_cosine(a[j], a[k]) / 0.3) for k in range(11) if k != j)
        terms.append(-math.log(hit / (others + sum(math.exp(_cosine(a[j], b[k]) / 0.3) for k in range(11)))))
    assert two_view_info_nce(a, b, 0.3, whole=whole).item() == pytest.approx(sum(terms) / 11)
    torch.autograd.gradcheck(lambda x, y: two_view_info_nce(x, y, 0.3, whole=whole), (a, b))


def test_jensen_shannon_matches_the_loop():
    a, b = rows(7, 5), rows(7, 5, seed=1)
    terms = [
        math.log1p(math.exp(-_cosine(a[j], b[j]) / 0.3)) + math.log1p(math.exp(_cosine(a[j], b[(j + 1) % 7]) / 0.3))
        for j in range(7)
    ]
    assert jensen_shannon(a, b, 0.3).item() == pytest.approx(sum(terms) / 7)
