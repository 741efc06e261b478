"""Parameters of one element, which look like the numbers of arithmetic in a file."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc

NETS = {
    "rms_norm over one element": (fc.compose(fc.tanh(), fc.rms_norm(1)), (3, 2, 1)),
    "layer_norm over one element": (fc.compose(fc.tanh(), fc.layer_norm(1)), (3, 2, 1)),
    "one channel": (fc.compose(fc.conv2d(1, 1), fc.batch_norm(), fc.prelu()), (2, 1, 3, 3)),
    "a factor": (
        fc.graph(
            {"scale": (fc.parameter(1, init=fc.initializers.ones()),), "y": (fc.multiply(), "x", "scale")}
        ),
        (2, 3),
    ),
    "an exponent": (
        fc.graph({"power": (fc.parameter(1, init=fc.initializers.ones()),), "y": (fc.pow(), "x", "power")}),
        (2, 3),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_parameters_of_one_element_come_back_as_parameters(name, tmp_path):
    net, shape = NETS[name]
    params = net.init(fc.random.key(0), shape)
    fc.to_onnx(net, params, shape, tmp_path / "net.onnx")
    read, held = fc.from_onnx(tmp_path / "net.onnx")
    assert fc.to_state_dict(held).keys() == fc.to_state_dict(params).keys()
    x = abs(fc.random.normal(fc.random.key(1), shape))
    np.testing.assert_allclose(read.apply(held, x), net.apply(params, x), 1e-6, 1e-6)
