"""Modules and networks that cannot be read or made, refused by name."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import fconv as fc
from tests.parity.traced import Of


def hooked():
    module = nn.Sequential(nn.Linear(3, 2))
    module[0].register_forward_hook(print)
    return module


class Looping(nn.Module):
    def forward(self, x):
        while x.sum() > 1:
            x = x / 2
        return x


class Moody(nn.Module):
    def forward(self, x):
        return x.relu() if self.training else x.tanh()


class Inner(nn.Module):
    def forward(self, x):
        return torch.sort(x, 1)[0]


def floored(m, x):
    y = z = x * 1
    y //= 2
    return z


def normed(norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # both are deprecated, and in many modules
        return norm(nn.Linear(3, 2))


OF = "from_torch: Of: "


REFUSED = [
    (nn.LSTM(3, 2), "from_torch: the module itself (LSTM): recurrent modules have no layer"),
    (nn.Sequential(nn.Linear(3, 2), nn.GRUCell(2, 2)), "from_torch: 1 (GRUCell): recurrent modules have no layer"),
    (Of(lambda m, x: m.attend(x), attend=nn.MultiheadAttention(4, 2)), "from_torch: Of: no shape was found that its forward takes; give from_torch shape="),
    (nn.Sequential(nn.Linear(3, 2), Inner()), "from_torch: Sequential: aten.sort in 1 (Inner), test_traced_refused.py, line"),
    (Of(lambda m, x: x.sort(1)[0]), "it has no layer; a layer of your own takes the place of an operator: layers={'aten.sort': my_layer}"),
    (nn.MaxPool2d(2, return_indices=True), "from_torch: MaxPool2d: MaxPool2d with return_indices=True has no layer"),
    (nn.Sequential(nn.Embedding(3, 2, max_norm=1.0)), "from_torch: Sequential: 0: Embedding with max_norm=1.0 has no layer"),
    (Looping(), "(while x.sum() > 1:): Python decides here on the values of a tensor, or makes a shape of them, which no network of layers does"),
    (Moody(), "from_torch: Moody: its forward does other things in training than in inference, first aten.relu in Moody, test_traced_refused.py, line"),
    (Moody(), "strict=False reads what it does in inference"),
    (Of(lambda m, x: (lambda y: [torch.add(x, 1, out=y), y][1])(x * 1)), "aten.add in Of, traced.py, line"),
    (Of(lambda m, x: (lambda y: [torch.add(x, 1, out=y), y][1])(x * 1)), "it writes into a tensor given as out="),
    (Of(floored), "aten.floor_divide in Of"),
    (Of(lambda m, x: torch.kl_div(x, x)), "aten.kl_div in Of"),
    (Of(lambda m, x: x.unfold(2, 0, 1)), "windows of 0 elements have no layer"),
    (hooked(), "from_torch: 0 (Linear): it has a hook, print, which no layer runs; remove it first"),
    (parametrizations.weight_norm(nn.Linear(3, 2)), "from_torch: the module itself (ParametrizedLinear): its weight is parametrized, as by weight_norm; make it plain with torch.nn.utils.parametrize.remove_parametrizations"),
    (normed(nn.utils.weight_norm), "it has a hook, WeightNorm, which no layer runs; torch.nn.utils.remove_weight_norm makes its weight plain"),
    (normed(nn.utils.spectral_norm), "it has a hook, SpectralNorm, which no layer runs; torch.nn.utils.remove_spectral_norm makes its weight plain"),
    (Of(lambda m, x: x * m.b, b=nn.Buffer(torch.ones(3, device="meta"), persistent=False)), "from_torch: b is on the meta device and holds no numbers"),
    (nn.Sequential(nn.Linear(3, 2, dtype=torch.complex64)), "from_torch: Sequential: 0.weight: expected a dense tensor of real numbers, got one of torch.complex64"),
    (Of(lambda m, x: m.fc(x), fc=nn.Linear(3, 2, dtype=torch.complex64)), "fc.weight: expected a dense tensor of real numbers, got one of torch.complex64"),
    (Of(lambda m, x: torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))), "from_torch: Of: cond in Of, traced.py, line"),
    (Of(lambda m, x: x.argmax(1)), "aten.argmax in Of"),
    (Of(lambda m, x: x + F.embedding(torch.arange(1, 2), m.w, padding_idx=1), w=nn.Parameter(torch.ones(2, 3))), "constant indices that are padding_idx have no layer"),
    (nn.Sequential(nn.LazyLinear(2)), "from_torch: 0 (LazyLinear): it has no shape yet; run the module once, so that it gets one"),
    (nn.Linear(3, 2, device="meta"), "from_torch: weight is on the meta device and holds no numbers"),
    (Of(lambda m, x: F.dropout(x, 0.5)), "it drops outside training too: training=True, where self.training is meant"),
    (Of(lambda m, x: x.to(torch.float16)), "torch.float32 becoming torch.float16 has no layer"),
    (Of(lambda m, x: x.detach()), "aten.detach in Of"),
    (Of(lambda m, x: x[x > 0]), "aten.index in Of, traced.py, line 24 (return self.function(self, x)): a size depends on the values of a tensor"),
    (Of(lambda m, x: torch.fft.fft(x).real), "aten.fft_fft in Of"),
    (Of(lambda m, x: F.softmax(x, 1, dtype=torch.float64)), "dtype=torch.float64 of an input of torch.float32 has no layer"),
    (Of(lambda m, x: (x, (x, x))), "from_torch: Of: expected tensors, or a tuple or dict of them, got tuple as output1"),
    (Of(lambda m, x: x + torch.rand(1)), "aten.rand in Of"),
    (Of(lambda m, x: m.step.add_(1) * x, step=nn.Parameter(torch.ones(1))), "step"),
    (Of(lambda m, x: m.step.add_(2) * x, step=nn.Buffer(torch.ones(1))), "it changes step, and the forward of a network changes none of its parameters"),
    (Of(lambda m, x: m.step.add_(1) * x, step=nn.Buffer(torch.tensor(0.0))), "it changes step, and the forward"),
    (Of(lambda m, x: torch.ones(3)), "from_torch: Of: its output depends on no input"),
    (Of(lambda m, x: F.batch_norm(x, None, None, training=True) * F.batch_norm(x, m.a, m.a, training=True), a=nn.Buffer(torch.ones(3))), "it takes the statistics of the batch in inference too"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "text"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_what_has_no_layer_is_refused_by_name(module, text):
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        fc.from_torch(module)
    assert str(caught.value).startswith("from_torch: ")


def test_what_is_no_module():
    with pytest.raises(TypeError, match=r"from_torch: expected a torch\.nn\.Module, got function"):
        fc.from_torch(F.relu)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, in newer versions
        scripted = torch.jit.script(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="from_torch: a scripted module cannot be followed"):
        fc.from_torch(scripted)
    with pytest.raises(TypeError, match="to_torch_module: expected a layer"):
        fc.to_torch_module(fc.relu, ())


def test_networks_that_are_no_modules():
    doubled = fc.Layer(
        init=lambda key, shape, dtype=None: (), apply=lambda params, x, *, train=False, key=None: 2 * x,
        vjp=lambda params, x, g, *, train=False, key=None: ((), 2 * g), out_shape=lambda shape: shape, name="double",
    )  # fmt: skip
    net = fc.compose(fc.linear(2), doubled)
    params = net.init(fc.random.key(0), (1, 3))
    with pytest.raises(ValueError, match=r"^to_torch_module: 1: double is nothing that PyTorch has$"):
        fc.to_torch_module(net, params)
    net = fc.compose(fc.batch_norm(), fc.relu())
    params = net.init(fc.random.key(0), (2, 3))
    with pytest.raises(
        ValueError, match=r"to_torch_module: 0: batch_norm: its module depends on the number of"
    ):
        fc.to_torch_module(net, params)
    assert isinstance(fc.to_torch_module(net, params, (2, 3))[0], nn.BatchNorm1d)
    net = fc.compose(fc.linear(2), fc.linear(3))
    params = net.init(fc.random.key(0), (2, 3))
    with pytest.raises(
        ValueError, match=r"to_torch_module: the parameters do not fit the network at 1\.more"
    ):
        fc.to_torch_module(net, (params[0], {**params[1], "more": np.zeros(2)}))


class _NoGrad(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        with torch.no_grad():
            return self.conv(x)


def test_a_part_without_gradients_is_refused():
    with pytest.raises(ValueError, match=r"a part of it runs under torch\.no_grad"):
        fc.from_torch(_NoGrad())
    with torch.no_grad():
        fc.from_torch(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
