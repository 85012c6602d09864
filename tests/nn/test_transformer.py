"""The causal transformer, fusion."""

import pytest
import torch
import torch.nn.functional as F

from seqmm.nn.fusion import Fusion
from seqmm.nn.transformer import CausalTransformer, last_state


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return CausalTransformer(16, 10, num_layers=2, num_heads=2, inner_size=32, dropout=0.0, attention_dropout=0.0)


def test_the_future_does_not_leak(encoder):
    x = torch.randn(3, 10, 16)
    before = encoder(x)
    for position in (4, 9):
        changed = x.clone()
        changed[:, position] += 1
        after = encoder(changed)
        assert torch.equal(after[:, :position], before[:, :position])
        assert (after[:, position:] != before[:, position:]).any(-1).all()


def test_padding_changes_nothing(encoder):
    x, mask = torch.randn(3, 10, 16), torch.arange(10) < torch.tensor([[4], [10], [0]])
    states = last_state(encoder(x), mask)
    torch.testing.assert_close(states[0], encoder(x[:1, :4])[0, 3])
    torch.testing.assert_close(states[1], encoder(x)[1, 9])
    assert torch.equal(states[2], torch.zeros(16)), "an empty history has no state"


def test_attention_is_the_formula(encoder):
    """One layer, naive loops over heads and positions; a bias on the keys would change nothing."""
    layer, x = encoder.layers[0], torch.randn(1, 5, 16)
    q, k, v = layer.query(x)[0], layer.key(x)[0] + torch.randn(16), layer.value(x)[0]
    out = torch.zeros(5, 16)
    for head in (slice(0, 8), slice(8, 16)):
        for i in range(5):
            weight = torch.stack([q[i, head] @ k[j, head] / 8**0.5 for j in range(i + 1)]).softmax(0)
            out[i, head] = sum(weight[j] * v[j, head] for j in range(i + 1))
    h = F.layer_norm(x[0] + layer.output(out), (16,), layer.attention_norm.weight, layer.attention_norm.bias, 1e-12)
    expected = F.layer_norm(h + layer.outer(F.gelu(layer.inner(h))), (16,), layer.norm.weight, layer.norm.bias, 1e-12)
    torch.testing.assert_close(layer(x)[0], expected, rtol=1e-4, atol=1e-5)


def test_no_rows_and_dropout(encoder):
    assert encoder(torch.randn(0, 1, 16)).shape == (0, 1, 16)
    dropping = CausalTransformer(16, 10, dropout=0.5, attention_dropout=0.5)
    x = torch.randn(2, 10, 16)
    assert not torch.equal(dropping(x), dropping(x))
    dropping.eval()
    assert torch.equal(dropping(x), dropping(x))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="hidden_size 15"):
        CausalTransformer(15, 10, num_heads=2)


@pytest.mark.parametrize("how", ["sum", "concat", "gate"])
def test_fusion(how):
    torch.manual_seed(0)
    fusion, sources = Fusion(how, 3, 4), [torch.randn(5, 4) for _ in range(3)]
    fused = fusion(sources)
    for row in range(5):
        if how == "sum":
            expected = sources[0][row] + sources[1][row] + sources[2][row]
        elif how == "concat":
            expected = fusion.linear.weight @ torch.cat([s[row] for s in sources]) + fusion.linear.bias
        else:
            weight = torch.stack([fusion.gate.weight[0] @ s[row] for s in sources]).softmax(0)
            expected = sum(w * s[row] for w, s in zip(weight, sources, strict=True))
        torch.testing.assert_close(fused[row], expected)
    alone = Fusion(how, 1, 4)
    assert torch.equal(alone(sources[:1]), sources[0]) and not list(alone.parameters())
