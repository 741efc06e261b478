"""Networks from torch.nn modules, and torch.nn modules and tensors from networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fconv.arrays import asnumpy, is_array
from fconv.layer import Layer, Params, as_layer
from fconv.state_dict import to_state_dict

OLDEST = (2, 6)
"""Of PyTorch's versions."""


def to_torch(params: Any) -> dict[str, Any]:
    """Return parameters as a state dict of torch tensors.

    Parameters
    ----------
    params : pytree of arrays
        Parameters of a layer or network; or what `to_optimizer_state_dict` gives, whose nesting stays.

    Returns
    -------
    dict of str to torch.Tensor
        Copies on the CPU, under the names that `to_state_dict` gives, for
        ``module.load_state_dict``.

    Raises
    ------
    ValueError
        PyTorch is not installed, or older than 2.6.
    TypeError
        A leaf is no array.
    """
    of_optimizer = isinstance(params, dict) and params.keys() == {"state", "param_groups"}
    tree = params if of_optimizer else to_state_dict(params)
    _require("to_torch")
    import torch

    def tensor(x: Any) -> Any:
        if is_array(x):
            return torch.from_numpy(np.array(asnumpy(x), order="C"))
        if isinstance(x, dict):  # with numbers for keys, which are no names of a tree
            return {key: tensor(value) for key, value in x.items()}
        return [tensor(value) for value in x] if isinstance(x, list) else x

    found: dict[str, Any] = tensor(tree)
    return found


def from_torch(
    module: Any, shape: Any = None, *, strict: bool = True, layers: Mapping[str, Any] | None = None
) -> tuple[Layer, Params]:
    """Read a torch.nn.Module as a network and its parameters.

    torch.export follows its forward in training and in inference, and each ATen operator becomes a
    layer. The module is left as it is.

    Parameters
    ----------
    module : torch.nn.Module
        In either mode: the network is told by ``train=`` whether it trains.
    shape : tuple of int or None, or dict of them, optional
        Shape of the input, batch axis included; of each input by name where there are several. The batch
        axis stays open; another stays open where it is None and the forward allows it. A shape that the
        forward takes is looked for where none is given.
    strict : bool
        Refuse a module with parameters or buffers that its forward does not use, and one that does other
        things in training than its layers say. Otherwise the first are left out, and the second is read
        as in inference.
    layers : mapping, optional
        Layers for operators by name, ``{"aten.foo": layer}``, before those of the table: a layer whose inputs
        are the operator's tensors in order, or a function that takes its other arguments by name and returns
        such a layer.

    Returns
    -------
    net : Layer
        A `compose` for a torch.nn.Sequential of layers, a layer for a module that is one, and
        otherwise a `graph` whose nodes are called as the submodules are. Several inputs or
        outputs are dicts, by the names of forward's arguments and by the keys of the dict that
        it returns; those of a tuple are called ``output0``, ``output1`` and so on. It refuses
        inputs of other sizes than those that it was read for.
    params : pytree of arrays
        Copies on the CPU in the module's dtypes; bfloat16, which NumPy lacks, becomes float32.
        Their names in a state dict are those of the module; of a tensor that stands at several
        places, the first.

    Raises
    ------
    ValueError
        Some operators have no layer: the message lists them with the module in whose forward each
        stands and the line. torch.export refuses the module. PyTorch is not installed, or older than 2.6.
    TypeError
        `module` is no torch.nn.Module, or an entry of `layers` no layer or function.

    Examples
    --------
    >>> from torch import nn  # doctest: +SKIP
    >>> net, params = from_torch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))  # doctest: +SKIP
    >>> sorted(fconv.to_state_dict(params))  # doctest: +SKIP
    ['0.bias', '0.weight']
    """
    _require("from_torch")
    for name, layer in (layers or {}).items():
        if not isinstance(layer, Layer) and not callable(layer):
            raise TypeError(f"from_torch: layers[{name!r}]: expected a layer or a function that makes one")
    from fconv.torch.assembling import read

    return read(module, shape, strict, layers)


def to_torch_module(net: Layer, params: Params, shape: Any = None) -> Any:
    """Return a network and its parameters as a torch.nn.Module.

    Parameters
    ----------
    net : Layer
        A layer or network.
    params : pytree of arrays
        Its parameters.
    shape : tuple of int, or dict of them, optional
        Shape of the input, for the layers whose class or arguments in PyTorch depend on it: norms
        that nothing before tells the number of axes of, and blocks such as `squeeze_excitation`.

    Returns
    -------
    torch.nn.Module
        The module of torch.nn for a layer that is one, a torch.nn.Sequential for a `compose` of
        such layers, and otherwise a torch.fx.GraphModule, whose ``code`` is its forward as
        Python text. Its state dict has the names of ``to_state_dict(params)``, its parameters
        are copies on the CPU, and it is in training mode, as new modules are. Several inputs
        are arguments by name; several outputs are a dict.

    Raises
    ------
    ValueError
        A layer has no counterpart in PyTorch: the message names it. The parameters do not fit,
        `shape` is needed, or PyTorch is not installed.
    TypeError
        `net` is no layer.

    Examples
    --------
    >>> to_torch_module(fconv.compose(fconv.linear(2), fconv.relu()), params)  # doctest: +SKIP
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): ReLU()
    )
    """
    _require("to_torch_module")
    from fconv.torch.building import build

    net = as_layer("to_torch_module", net)
    return build(net, params, to_torch(params), shape)


def _require(name: str) -> None:
    try:
        import torch
    except ImportError as error:
        raise ValueError(f"{name}: PyTorch is not installed: pip install 'fconv-nn[torch]'") from error
    if torch.__version__ < OLDEST:
        raise ValueError(
            f"{name}: expected PyTorch {'.'.join(map(str, OLDEST))} or newer, got {torch.__version__}: "
            f"pip install --upgrade 'fconv-nn[torch]'"
        )
