"""Connections between the layers of a network, nested or flat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fconv.layer import Layer, Step, Wiring, located


class Placed(NamedTuple):
    """A layer where it stands: its step in the wiring, and the shape of its input."""

    step: Step
    shape: Any
    shared: bool


def placed(net: Layer, shape: Any) -> Iterator[Placed]:
    """Yield the layers directly inside a network in the order of its forward pass, for its input's shape.

    Each comes with the shape that reaches it, `shared` where its parameters were met before. A layer that is
    made of no others yields nothing.

    Examples
    --------
    >>> from fconv.layers import conv2d, relu
    >>> from fconv.networks.chains import compose
    >>> [(at.step.name, at.shape) for at in placed(compose(conv2d(8, 3), relu()), (1, 3, 8, 8))]
    [('0', (1, 3, 8, 8)), ('1', (1, 8, 6, 6))]
    """
    wiring = net.wiring(shape)
    if wiring is None:
        return
    shapes = wiring.entering(shape)
    met = set()
    for step in wiring.steps:
        each = tuple(shapes[source] for source in step.sources)
        entering = each[0] if len(each) == 1 else each
        yield Placed(step, entering, step.params in met)
        if step.params is not None:
            met.add(step.params)
        with located(f"{net.name}[{step.name}]", step.layer):
            shapes[step.name] = step.layer.out_shape(entering)


def flat(net: Layer, shape: Any = None, keep: Callable[[Layer], bool] = lambda layer: False) -> Wiring:
    """Lay a network flat: its innermost layers, and which takes the output of which.

    Only layers whose inside depends on the input's `shape` need it (`squeeze_excitation`,
    `depthwise_separable_conv2d`). Each step holds a layer that is made of no others, or that ``keep(layer)``
    keeps. A name is the path to the layer, joined by dots as a state dict joins them; `params` is the same
    path in the parameters.

    Raises
    ------
    ValueError
        A network inside has several inputs or outputs by name; two layers have one name; or `shape`
        is needed.

    Examples
    --------
    >>> from fconv.layers import conv2d, relu
    >>> from fconv.networks import compose, residual
    >>> net = compose(stem=conv2d(4, 1), block=residual(compose(conv2d(4, 3, padding=1), relu())))
    >>> for step in flat(net).steps:
    ...     print(step.name, step.layer.name, step.sources)
    stem conv2d ('input',)
    block.body.0 conv2d ('stem',)
    block.body.1 relu ('block.body.0',)
    block.merge add ('block.body.1', 'stem')
    """
    wiring = net.wiring(shape)
    if wiring is None:
        return Wiring((Step(net.name, net, ("input",), ()),), ("input",), (net.name,))
    steps: list[Step] = []
    values: dict[str, tuple[str, ...]] = {name: (name,) for name in wiring.inputs}
    shapes = {} if shape is None else wiring.entering(shape)
    _inline(net, wiring, (), (), values, shapes, steps, keep)
    seen = set(wiring.inputs)
    for step in steps:
        if step.name in seen:
            raise ValueError(
                f"{net.name}: two layers or inputs are named {step.name!r} once the dots are joined"
            )
        seen.add(step.name)
    outputs = tuple(values[name][0] for name in wiring.outputs)
    return Wiring(tuple(steps), wiring.inputs, outputs, wiring.lone_input, wiring.lone_output)


def _inline(
    net: Layer,
    wiring: Wiring,
    path: tuple[str, ...],
    root: tuple[str, ...],
    values: dict[str, tuple[str, ...]],
    shapes: dict[str, Any],
    steps: list[Step],
    keep: Callable[[Layer], bool],
) -> None:
    """Append the steps of a network. `values` tells which flat names each name inside stands for."""
    for step in wiring.steps:
        where = (*path, step.name)
        params = None if step.params is None else (*root, *step.params)
        sources = tuple(name for source in step.sources for name in values[source])
        entering = None
        if shapes:
            each = tuple(shapes[source] for source in step.sources)
            entering = each[0] if len(each) == 1 else each
            shapes[step.name] = step.layer.out_shape(entering)
        with located(f"{net.name}[{step.name}]", step.layer):
            inside = None if keep(step.layer) else step.layer.wiring(entering)
        if inside is None:
            name = ".".join(where)
            steps.append(Step(name, step.layer, sources, params))
            values[step.name] = (name,)
            continue
        if not (inside.lone_input and inside.lone_output):
            raise ValueError(
                f"{'.'.join(where)}: a network inside another needs one input and one output to be laid flat"
            )
        several = len(inside.inputs) > 1
        apart = [(source,) for source in sources] if several else [sources]
        inner_values = dict(zip(inside.inputs, apart, strict=True))
        inner_shapes = {} if entering is None else inside.entering(entering)
        _inline(step.layer, inside, where, params or (), inner_values, inner_shapes, steps, keep)
        values[step.name] = inner_values[inside.outputs[0]]
