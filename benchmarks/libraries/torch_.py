"""PyTorch, eager."""

from __future__ import annotations

import re

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.libraries import CHANNELS_LAST
from benchmarks.networks import in_torch

VERSIONS = ("torch",)
_device = "cpu"
LOSSES = {"mse": F.mse_loss, "nll": F.nll_loss, "cross_entropy": F.cross_entropy}


def set_device(device):
    """Compute there from now on; on a GPU without TF32, by the algorithms that cuDNN finds fastest."""
    global _device
    _device = device
    if device == "cuda":
        torch.cuda.init()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True


def there(array):
    return torch.from_numpy(array).to(_device)


def finished(run):
    """Make a function that returns when all is computed that was begun."""
    if _device == "cpu":
        return run

    def whole():
        result = run()
        torch.cuda.synchronize()
        return result

    return whole


def laid(x, layout):
    if layout != CHANNELS_LAST:
        return x
    if x.ndim == 3:  # PyTorch has no memory format of that name for signals; the strides say the same
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if x.ndim < 3:
        return x
    return x.to(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)


def convolution(case, what, layout):
    x, w, b, g = map(there, case.arrays())
    x, w, g = laid(x, layout), laid(w, layout), laid(g, layout)
    function = getattr(F, f"conv{'_transpose' * case.transposed}{case.ndim}d")
    options = {name: getattr(case, name) for name in ("stride", "padding", "dilation", "groups")}
    if what == "forward":
        return finished(lambda: (_without_grad(function, x, w, b, **options),))
    wanted = [x, w, b] if what == "vjp" else [w]
    for a in wanted:
        a.requires_grad_()
    y = function(x, w, b, **options)
    # The graph is kept, so that only the backward pass is timed, as it is of the others.
    return finished(lambda: torch.autograd.grad(y, wanted, g, retain_graph=True))


def passing(case, what, layout):
    """Return a function of large arrays that computes little, or its gradient, without arguments."""
    x, g = (laid(there(a), layout) for a in case.arrays())
    if case.function == "copy":
        return finished(lambda: (x.clone(),))
    function, weights = getattr(F, case.function), [there(a) for a in case.weights()]
    before = (there(a) if isinstance(a, np.ndarray) else a for a in case.before())
    args = (x, *before, *weights)
    if what == "forward":
        return finished(lambda: (_without_grad(function, *args, **case.options),))
    for a in (x, *weights):
        a.requires_grad_()
    y = function(*args, **case.options)
    return finished(lambda: torch.autograd.grad(y, (x, *weights), g, retain_graph=True))


def _without_grad(function, *args, **options):
    with torch.no_grad():
        return function(*args, **options)


def step(case, weights, layout, dropout, dtype):
    """Return a function that trains one step and returns its loss, and one that returns the momentum."""
    x, target = map(there, case.batch(dtype))
    x = laid(x, layout)
    net = _network(case, weights, layout, dropout).train().to(getattr(torch, dtype))
    opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    loss_of = LOSSES[case.loss]

    def take():
        opt.zero_grad()
        loss = loss_of(net(x), target)
        loss.backward()
        opt.step()
        return loss.item()

    def momentum():
        return {name: opt.state[p]["momentum_buffer"].cpu().numpy() for name, p in net.named_parameters()}

    return finished(take), momentum


def inference(case, weights, layout):
    x = laid(there(case.pictures()), layout)
    net = _network(case, weights, layout, 0.0).eval()

    def apply():
        with torch.inference_mode():
            return (net(x),)

    return finished(apply)


def _network(case, weights, layout, dropout):
    net = in_torch(case.network, dropout=dropout)
    net.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=True)
    net = net.to(_device)
    return net.to(memory_format=torch.channels_last) if layout == CHANNELS_LAST else net


def numpy(results):
    return [y.detach().cpu().numpy() for y in results]


def details():
    """Name the kernels, which are built into PyTorch."""
    if _device == "cuda":
        return f"{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}, without TF32"
    onednn = re.search(r"MKL-DNN v(\S+)", torch.__config__.show())
    return f"oneDNN {onednn[1]}, {torch.backends.cpu.get_cpu_capability()} kernels" if onednn else ""


def set_threads(n):
    torch.set_num_threads(n)
