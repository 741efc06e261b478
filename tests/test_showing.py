"""Networks, optimizers and trees of arrays as they are shown."""

from __future__ import annotations

import numpy as np

import fconv as fc
from fconv import schedules

KEY = fc.random.key(0)


def test_default_options_are_not_shown():
    assert repr(fc.conv2d(16, 3)) == "conv2d(out_channels=16, kernel_size=(3, 3))"
    assert repr(fc.conv2d(16, 3, stride=2, bias=False)) == (
        "conv2d(out_channels=16, kernel_size=(3, 3), stride=(2, 2), bias=False)"
    )
    assert repr(fc.batch_norm()) == "batch_norm()"
    assert repr(fc.batch_norm(momentum=0.2)) == "batch_norm(momentum=0.2)"
    assert repr(fc.linear(10)) == "linear(out_features=10)"
    assert repr(fc.dropout(0.2)) == "dropout(p=0.2)"
    assert repr(fc.sgd(lr=0.1)) == "sgd(lr=0.1)"
    assert repr(fc.adam(schedules.cosine(0.1, 10))) == "adam(lr=cosine(lr=0.1, T_max=10))"
    assert repr(fc.mse_loss(reduction="mean")) == "mse_loss()"
    assert repr(fc.mse_loss(reduction="sum")) == "mse_loss(reduction='sum')"


def test_describe_shows_no_entries():
    net = fc.compose(conv=fc.conv2d(8, 3), norm=fc.batch_norm())
    state = fc.train_state(net, fc.sgd(0.1, momentum=0.9), KEY, (1, 3, 8, 8))
    text = fc.describe(state)
    assert repr(text) == text
    lines = text.splitlines()
    assert lines[0].split() == ["params.conv.weight", "float32", "(8,", "3,", "3,", "3)"]
    assert lines[-2].split() == ["step", "0"]
    assert "opt_state.leaves.conv.weight.momentum_buffer" in text
    arrays = [leaf for leaf in fc.trees.leaves(state) if isinstance(leaf, np.ndarray)]
    assert lines[-1].startswith(f"{len(arrays)} arrays, {sum(a.size for a in arrays):,} elements")
    assert fc.describe(np.zeros(3)) == "the array  float64  (3,)\n1 array, 3 elements, 24 bytes"
    assert fc.describe({"note": "x" * 100}).splitlines()[0].endswith("x...")
    assert (
        fc.describe({"note": "<b>"})._repr_html_()
        == "<pre>note  &#x27;&lt;b&gt;&#x27;\n0 arrays, 0 elements, 0 bytes</pre>"
    )


def test_networks_in_a_notebook():
    html = fc.compose(**{"<body>": fc.compose(fc.linear(3), fc.relu())}, act=fc.relu())._repr_html_()
    assert html.startswith("<details open><summary><code>compose</code></summary>")
    assert "<b>&lt;body&gt;</b>" in html
    assert "<div><b>0</b> <code>linear(out_features=3)</code></div>" in html
    assert html.count("<details") == html.count("</details>") == 2
    assert fc.relu()._repr_html_() == "<div><code>relu()</code></div>"


def test_options_of_an_object_that_is_a_layer_are_shown():
    class Object:
        name = "shift"
        init = apply = vjp = out_shape = staticmethod(lambda *_, **__: ())

    for options, text in (({"by": 2}, "shift(by=2)"), ("2", "shift()")):
        own = Object()
        own.options = options
        assert repr(fc.compose(own)[0]) == text
    assert repr(fc.compose(Object())[0]) == "shift()"
