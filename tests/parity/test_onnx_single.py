"""Operators of a computed input, one in a file: read, they compute what ONNX Runtime does, or say why not."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import helper  # noqa: E402

from tests.parity.onnx_evaluators import by_reference, by_runtime  # noqa: E402
from tests.parity.test_onnx_reading import model, read  # noqa: E402

DRAW = np.random.default_rng(0)


def f(*shape):
    return DRAW.standard_normal(shape).astype(np.float32)


def i(*values):
    return np.array(values, np.int64)


def scales(*values):
    return np.array(values, np.float32)


SQUARE, PICTURE = (2, 3, 6, 6), (2, 4, 5, 7)
NONE = np.zeros(0, np.float32)
HALF, TWICE, ODD = scales(1, 1, 0.5, 0.5), scales(1, 1, 2, 2), scales(1, 1, 1.5, 2.25)


def resize(coordinates, mode, factors=TWICE, rounding=None, **more):
    given = {"coordinate_transformation_mode": coordinates, "mode": mode, **more}
    return "Resize", [NONE, factors], given | ({"nearest_mode": rounding} if rounding else {})


CASES = {
    # Operator, constants behind the input, attributes, the input's shape; the opset is 18 unless it is given.
    **{
        f"resize {mode} by {rule}, {name}": (*resize(rule, mode, factors), SQUARE)
        for mode in ("linear", "cubic")
        for rule in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric")
        for name, factors in (("half", HALF), ("twice", TWICE), ("odd", ODD))
    },
    **{
        f"resize nearest by {rule} and {rounding}, {name}": (*resize(rule, "nearest", factors, rounding), SQUARE)
        for rule in ("half_pixel", "align_corners", "asymmetric")
        for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        for name, factors in (("half", HALF), ("twice", TWICE), ("odd", ODD))
    },
    "resize to one pixel": (*resize("pytorch_half_pixel", "linear", scales(1, 1, 1 / 6, 1 / 6)), SQUARE),
    "resize one pixel": (*resize("align_corners", "linear", scales(1, 1, 4, 4)), (2, 3, 1, 1)),
    "resize without what lies outside": (*resize("half_pixel", "cubic", ODD, exclude_outside=1), SQUARE),
    "resize by another cubic": (*resize("half_pixel", "cubic", ODD, cubic_coeff_a=-0.5), SQUARE),
    "resize smoothly": (*resize("half_pixel", "linear", HALF, antialias=1), SQUARE),
    "resize cubic smoothly": (*resize("half_pixel", "cubic", HALF, antialias=1, exclude_outside=1), SQUARE),
    "resize some axes": ("Resize", [NONE, scales(2, 3)], {"axes": [2, 3], "mode": "linear"}, SQUARE),
    "resize to sizes": ("Resize", [NONE, NONE, i(2, 3, 9, 4)], {"mode": "linear"}, SQUARE),
    "resize to no larger": (
        "Resize", [NONE, NONE, i(9, 4)], {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, SQUARE,
    ),
    "resize to no smaller": (
        "Resize", [NONE, NONE, i(9, 4)], {"axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller"}, SQUARE,
    ),
    "resize a crop": (
        "Resize", [scales(0, 0, 0.2, 0.1, 1, 1, 0.8, 1.2), NONE, i(2, 3, 4, 5)],
        {"coordinate_transformation_mode": "tf_crop_and_resize", "mode": "linear", "extrapolation_value": 7.0}, SQUARE,
    ),
    "resize three axes": (*resize("asymmetric", "linear", scales(1, 1, 2, 2, 2)), (1, 2, 3, 4, 3)),
    "resize all axes": ("Resize", [NONE, scales(2, 1, 2, 2)], {}, SQUARE),
    "upsample": ("Upsample", [TWICE], {"mode": "nearest", "opset": 9}, SQUARE),
    "upsample by an attribute": ("Upsample", [], {"scales": [1.0, 1.0, 3.0, 2.0], "opset": 7}, SQUARE),
    "upsample linearly": ("Upsample", [TWICE], {"mode": "linear", "opset": 9}, SQUARE),
    "depth to space": ("DepthToSpace", [], {"blocksize": 2}, (2, 12, 3, 5)),
    "columns of depth to space": ("DepthToSpace", [], {"blocksize": 2, "mode": "CRD"}, (2, 12, 3, 5)),
    "depth to space of one channel": ("DepthToSpace", [], {"blocksize": 2}, (2, 4, 3, 5)),
    "space to depth": ("SpaceToDepth", [], {"blocksize": 2}, (2, 3, 4, 6)),
    "transposed": ("ConvTranspose", [f(4, 2, 3, 3)], {"strides": [2, 2]}, PICTURE),
    "transposed, padded unevenly": (
        "ConvTranspose", [f(4, 2, 3, 3), f(2)], {"strides": [2, 2], "pads": [0, 1, 1, 0]}, PICTURE,
    ),
    "transposed, by the same size": (
        "ConvTranspose", [f(4, 2, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, PICTURE,
    ),
    "transposed, from below": (
        "ConvTranspose", [f(4, 2, 3, 3)], {"strides": [2, 2], "auto_pad": "SAME_LOWER"}, PICTURE,
    ),
    "transposed to a size": ("ConvTranspose", [f(4, 2, 3, 3)], {"strides": [2, 2], "output_shape": [9, 13]}, PICTURE),
    "transposed, made longer": (
        "ConvTranspose", [f(4, 2, 3, 3)], {"strides": [3, 2], "output_padding": [2, 1], "group": 2}, PICTURE,
    ),
    "convolved by the same size": ("Conv", [f(5, 4, 3, 2)], {"auto_pad": "SAME_UPPER", "strides": [2, 3]}, PICTURE),
    "convolved from below": ("Conv", [f(5, 4, 4, 2), f(5)], {"auto_pad": "SAME_LOWER"}, PICTURE),
    "convolved, padded unevenly": ("Conv", [f(6, 2, 3, 3)], {"pads": [0, 1, 2, 0], "group": 2}, PICTURE),
    "an affine map": ("Gemm", [f(6, 5), f(5)], {}, (3, 6)),
    "a scaled affine map": ("Gemm", [f(5, 6), f(5)], {"alpha": 0.5, "beta": 2.0, "transB": 1}, (3, 6)),
    "an affine map without a bias": ("Gemm", [f(6, 5)], {"alpha": 3.0}, (3, 6)),
    "an affine map with one number": ("Gemm", [f(6, 5), f(1)], {}, (3, 6)),
    "flat": ("Flatten", [], {"axis": 2}, PICTURE),
    "flat from behind": ("Flatten", [], {"axis": -1}, PICTURE),
    "padded": ("Pad", [i(0, 0, 1, 2, 0, 0, 2, 1), np.float32(3)], {}, PICTURE),
    "padded along some axes": ("Pad", [i(1, 2), np.float32(3), i(3)], {}, PICTURE),
    "padded by the edge": ("Pad", [i(0, 0, 1, 2, 0, 0, 2, 1)], {"mode": "edge"}, PICTURE),
    "reshaped": ("Reshape", [i(0, 2, -1)], {}, PICTURE),
}  # fmt: skip


def built(op, constants, attributes, shape):
    """Make a model of one operator. An absent input, the crop or the scales of Resize, has no name."""
    attributes = dict(attributes)
    opset = attributes.pop("opset", 18)
    given = ["" if constant is NONE else f"c{k}" for k, constant in enumerate(constants)]
    held = {name: constant for name, constant in zip(given, constants, strict=True) if name}
    node = helper.make_node(op, ["x", *given], ["y"], **attributes)
    return model([node], [("x", shape)], [("y", None)], held, opset)


def departs(op, constants, attributes, shape):
    """Return whether ONNX Runtime departs from the standard: it takes a fractional length for whole."""
    aligned = attributes.get("coordinate_transformation_mode") == "align_corners"
    return aligned and bool((constants[1] * shape % 1).any())


@pytest.mark.parametrize("name", CASES)
def test_an_operator_is_what_onnx_runtime_computes(name, tmp_path):
    x = np.random.default_rng(1).standard_normal(CASES[name][-1]).astype(np.float32)
    net, params = read(built(*CASES[name]), tmp_path)
    run = by_reference if departs(*CASES[name]) else by_runtime
    (expected,) = run(tmp_path / "net.onnx", {"x": x})
    np.testing.assert_allclose(net.apply(params, x), expected, 1e-5, 1e-5)


REFUSED = {
    "an uneven size": (
        "ConvTranspose", [f(4, 2, 3, 3)], {"strides": [2, 2], "output_shape": [10, 14]}, PICTURE, "leaves open which side",
    ),
    "other channels": ("ConvTranspose", [f(3, 2, 3, 3)], {}, PICTURE, "expected 3 channels for its weight, got 4"),
    "other features": ("Gemm", [f(7, 5)], {}, (3, 6), "expected 7 features for its weight, got 6"),
    "a bias of another size": ("Gemm", [f(6, 5), f(4)], {}, (3, 6), r"expected a bias of shape \(5,\), got \(4,\)"),
    "a weight of other axes": ("Conv", [f(5, 4, 3)], {}, PICTURE, "expected a weight of 4 axes"),
    "channels that no block divides": ("DepthToSpace", [], {"blocksize": 3}, PICTURE, "blocksize 3 squared divides"),
    "no block": ("SpaceToDepth", [], {"blocksize": 0}, PICTURE, "a blocksize of 1 or more, got 0"),
    "unknown coordinates": (*resize("by_hand", "linear"), SQUARE, "by_hand"),
    "unknown rounding": (*resize("align_corners", "nearest", TWICE, "up"), SQUARE, "up"),
    "an unknown mode": (*resize("half_pixel", "sinc"), SQUARE, "sinc"),
    "too few scales": ("Resize", [NONE, scales(2, 2)], {}, SQUARE, "expected 4 scales"),
    "an unknown policy": (
        "Resize", [NONE, NONE, i(9, 4)], {"axes": [2, 3], "keep_aspect_ratio_policy": "any"}, SQUARE, "'any'",
    ),
    "an axis too many": ("Flatten", [], {"axis": 5}, PICTURE, "4 axes has no axis 5"),
    "an unknown padding": ("Pad", [i(*[0] * 8)], {"mode": "around"}, PICTURE, "mode 'around' is none of ONNX's"),
    "too few widths": ("Pad", [i(0, 0)], {}, PICTURE, "expected 8 widths, got 2"),
    "an impossible shape": ("Reshape", [i(2, -2)], {}, PICTURE, "cannot reshape an input"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_operator_that_does_not_fit_is_refused_by_name(name, tmp_path):
    op, constants, attributes, shape, message = REFUSED[name]
    with pytest.raises(ValueError, match=rf"{op}.*{message}"):
        read(built(op, constants, attributes, shape), tmp_path)
