"""Networks laid flat: running the flat list gives what the network gives."""

import numpy as np
import pytest

import fconv as fc
from fconv.layer import params_at
from fconv.networks.wiring import flat, placed

KEY = fc.random.key(3)


def conv(channels=4):
    return fc.conv2d(channels, 3, padding=1)


NETWORKS = {
    "layer": conv(),
    "chain": fc.compose(conv(), fc.compose(a=fc.batch_norm(), b=fc.relu()), conv(2)),
    "empty": fc.compose(),
    "residual": fc.compose(conv(), fc.residual(fc.compose(conv(), fc.relu()))),
    "shortcut": fc.residual(conv(6), fc.conv2d(6, 1)),
    "parallel": fc.parallel(conv(), fc.relu()),
    "parallel by name": fc.parallel(one=conv(), other=fc.residual(fc.relu()), merge="sum"),
    "repeat": fc.compose(conv(), fc.repeat(conv(), 3)),
    "repeat shared": fc.compose(conv(), fc.repeat(fc.compose(conv(), fc.tanh()), 3, shared=True)),
    "graph": fc.graph(
        {
            "down.0": (conv(), "x"),
            "down.1": ("down.0", "act"),
            "act": (fc.relu(), "down.0"),
            "cat": (fc.parallel(fc.concat(), fc.add(), merge=fc.concat()), "down.0", "down.1"),
            "sum": (fc.add(), "cat", "cat"),
        }
    ),
    "blocks": fc.compose(fc.depthwise_separable_conv2d(6, 3), fc.squeeze_excitation(2)),
}


def run(wiring, params, x):
    """Interpret a flat wiring, step by step."""
    values = dict(zip(wiring.inputs, (x,), strict=True)) if wiring.lone_input else dict(x)
    for step in wiring.steps:
        taken = tuple(values[source] for source in step.sources)
        assert step.name not in values
        values[step.name] = step.layer.apply(
            params_at(params, step.params), taken[0] if len(taken) == 1 else taken
        )
    found = {name: values[name] for name in wiring.outputs}
    return found[wiring.outputs[0]] if wiring.lone_output else found


@pytest.mark.parametrize("net", NETWORKS.values(), ids=NETWORKS)
def test_the_flat_network_gives_the_same(net):
    x = fc.random.normal(KEY, (2, 4, 6, 6))
    params = net.init(KEY, x.shape)
    wiring = flat(net, x.shape)
    assert all(step.layer.wiring(None) is None for step in wiring.steps)
    np.testing.assert_array_equal(run(wiring, params, x), net.apply(params, x))
    named = {".".join((*step.params, leaf)) for step in wiring.steps if step.params is not None
             for leaf in fc.to_state_dict(params_at(params, step.params))}  # fmt: skip
    assert named == set(fc.to_state_dict(params))


def test_several_inputs_and_outputs():
    net = fc.graph(
        {"a": (conv(), "left"), "b": (fc.residual(conv()), "right"), "c": (fc.add(), "a", "b")},
        inputs=("left", "right"),
        outputs=("a", "c"),
    )
    x = {
        name: fc.random.normal(fc.random.fold_in(KEY, i), (1, 4, 5, 5))
        for i, name in enumerate(("left", "right"))
    }
    params = net.init(KEY, {name: v.shape for name, v in x.items()})
    found = run(flat(net), params, x)
    for name, y in net.apply(params, x).items():
        np.testing.assert_array_equal(found["b.merge" if name == "b" else name], y)
    with pytest.raises(ValueError, match=r"1: a network inside another needs one input and one output"):
        flat(fc.compose(fc.relu(), net))


def test_the_inside_of_a_block_needs_the_shape():
    with pytest.raises(ValueError, match=r"compose\[0\] squeeze_excitation: .* give the input shape"):
        flat(fc.compose(fc.squeeze_excitation(2)))


def test_shared_parameters_are_named_once():
    at = list(placed(fc.repeat(conv(), 3, shared=True), (1, 4, 5, 5)))
    assert [p.shared for p in at] == [False, True, True]
    assert [p.shape for p in at] == [(1, 4, 5, 5)] * 3


def test_two_layers_of_one_name_are_refused():
    net = fc.graph({"a.b": (fc.relu(), "x"), "a": (fc.compose(b=fc.sigmoid()), "a.b")})
    with pytest.raises(ValueError, match=r"graph: two layers or inputs are named 'a\.b' once the dots"):
        flat(net)
    net = fc.graph({"a": (fc.compose(b=fc.sigmoid()), "a.b")}, inputs="a.b")
    with pytest.raises(ValueError, match=r"graph: two layers or inputs are named 'a\.b' once the dots"):
        flat(net)
