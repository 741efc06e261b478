"""State dicts: names, values in and out, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

import fconv as fc
from fconv.testing.purity import same_bits
from tests.test_checkpoint import NET, PARAMS, SUFFIXES


def test_state_dict_has_pytorchs_names():
    assert list(fc.to_state_dict(PARAMS)) == [
        "conv.weight", "conv.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
        "norm.num_batches_tracked", "rest.1.weight", "rest.1.bias",
    ]  # fmt: skip
    flat = fc.to_state_dict(PARAMS)
    assert fc.to_state_dict(flat) == flat
    assert flat["conv.weight"] is PARAMS["conv"]["weight"]


def test_state_dict_goes_in_and_out():
    other = NET.init(fc.random.key(1), (2, 1, 5, 5))
    assert same_bits(fc.from_state_dict(other, fc.to_state_dict(PARAMS)), PARAMS)
    assert same_bits(fc.from_state_dict(other, PARAMS), PARAMS)
    wide = {name: x.astype(np.float64) for name, x in fc.to_state_dict(PARAMS).items()}
    assert same_bits(fc.from_state_dict(other, wide), PARAMS)
    copied = fc.from_state_dict(other, PARAMS)
    assert not np.shares_memory(copied["conv"]["weight"], PARAMS["conv"]["weight"])


def test_all_that_does_not_fit_is_listed_at_once():
    flat = fc.to_state_dict(PARAMS)
    del flat["conv.bias"], flat["norm.weight"]
    flat |= {"rest.1.bias": np.zeros(3), "extra": np.zeros(1), "another": np.zeros(())}
    with pytest.raises(ValueError, match="the state dict does not fit") as info:
        fc.from_state_dict(PARAMS, flat)
    lines = str(info.value).splitlines()
    assert lines[1:] == [
        "  missing: conv.bias (4,); norm.weight (4,)",
        "  unexpected: extra (1,); another ()",
        "  misshapen: rest.1.bias: expected (2,), got (3,)",
    ]
    with pytest.raises(ValueError, match="misshapen") as info:
        fc.from_state_dict(PARAMS, flat, strict=False)
    assert "missing" not in str(info.value)
    del flat["rest.1.bias"]
    loose = fc.from_state_dict(PARAMS, flat, strict=False)
    assert loose["conv"]["bias"] is PARAMS["conv"]["bias"]


def test_state_dict_refuses_what_is_no_array_and_clashing_names():
    with pytest.raises(TypeError, match="to_state_dict: a is no array but int"):
        fc.to_state_dict({"a": 3})
    clash = {"a.b": np.zeros(1), "a": {"b": np.zeros(1)}}
    with pytest.raises(ValueError, match=r"two entries are named 'a\.b'"):
        fc.to_state_dict(clash)
    for suffix in SUFFIXES:
        with pytest.raises(ValueError, match=r"two entries are named 'a\.b'"):
            fc.save(f"/nonexistent/x{suffix}", clash)
