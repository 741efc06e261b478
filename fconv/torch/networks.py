"""Networks from torch.nn modules, and torch.nn modules from networks."""

from __future__ import annotations

from typing import Any

from fconv.layer import Layer, Params


def from_torch(module: Any, shape: Any = None, *, strict: bool = True) -> tuple[Layer, Params]:
    """Read a torch.nn.Module as a network and its parameters.

    Its forward is followed once with symbols in the place of tensors (torch.fx), and each step of
    it becomes a layer: modules of torch.nn, functions and methods of tensors. The module is left
    as it is.

    Parameters
    ----------
    module : torch.nn.Module
        In either mode: the network is told by ``train=`` whether it trains.
    shape : tuple of int, or dict of them, optional
        Shape of the input, batch axis included; of each input by name where there are several.
        Needed where the forward computes with sizes other than the batch's.
    strict : bool
        Refuse a module with parameters or buffers that its forward does not use. Otherwise they
        are left out.

    Returns
    -------
    net : Layer
        A `compose` for a torch.nn.Sequential of layers, a layer for a module that is one, and
        otherwise a `graph` whose nodes are called as the submodules are. Several inputs or
        outputs are dicts, by the names of forward's arguments and by the keys of the dict that
        it returns; those of a tuple are called ``output0``, ``output1`` and so on.
    params : pytree of arrays
        Copies on the CPU in the module's dtypes; bfloat16, which NumPy lacks, becomes float32.
        Their names in a state dict are those of the module; of a module that stands at several
        places, the first.

    Raises
    ------
    ValueError
        Some step has no layer: the message names the step and the module in whose forward it
        stands. PyTorch is not installed.
    TypeError
        `module` is no torch.nn.Module.

    Examples
    --------
    >>> from torch import nn  # doctest: +SKIP
    >>> net, params = from_torch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()))  # doctest: +SKIP
    >>> sorted(fconv.to_state_dict(params))  # doctest: +SKIP
    ['0.bias', '0.weight']
    """
    _require("from_torch")
    from fconv.torch.assembling import read

    return read(module, shape, strict)


def to_torch_module(net: Layer, params: Params, shape: Any = None) -> Any:
    """Give a network and its parameters as a torch.nn.Module.

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

    return build(net, params, shape)


def _require(name: str) -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ValueError(f"{name}: PyTorch is not installed: pip install 'fconv-nn[torch]'") from error
