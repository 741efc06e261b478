"""Losses."""

from __future__ import annotations

from math import inf, prod

import numpy as np
from hypothesis import strategies as st

from tests import naive
from tests.cases.common import Case, elements, shapes

reductions = st.sampled_from(["mean", "sum", "none"])


def moved(shape, change):
    """Draw an array and change it."""
    return elements(shape).map(lambda a: np.asarray(change(a)))


def positive(shape):
    """Draw numbers of at least 0.5."""
    return moved(shape, lambda a: abs(a) + 0.5)


def unit(shape, least=0.05):
    """Draw numbers from `least` to 1 - `least`."""
    return moved(shape, lambda a: 0.5 + (0.5 - least) * np.tanh(a))


def moderate(shape):
    """Draw numbers whose exponentials are small enough for differences to see."""
    return moved(shape, lambda a: 3 * np.tanh(a / 3))


@st.composite
def signs(draw, shape):
    """Draw an array of 1 and -1, of integers or floats."""
    count = prod(shape)
    dtype = draw(st.sampled_from([np.int64, np.float64]))
    labels = draw(st.lists(st.sampled_from([1, -1]), min_size=count, max_size=count))
    return np.array(labels, dtype).reshape(shape)


@st.composite
def same_shape(draw, *makers, reductions=reductions, shapes=shapes, **options):
    """Draw arrays of one shape by their makers, a reduction, and options from strategies."""
    shape = draw(shapes)
    drawn = {name: draw(strategy) for name, strategy in options.items()}
    return [draw(make(shape)) for make in makers], {"reduction": draw(reductions)} | drawn


@st.composite
def broadcastable(draw, shape):
    """Draw the shape of a weight that broadcasts to `shape`."""
    kept = shape[draw(st.integers(0, len(shape))) :]
    return tuple(draw(st.sampled_from([n, 1])) for n in kept)


@st.composite
def binary_cases(draw, make, logits):
    shape = draw(shapes)
    weight = st.none() | broadcastable(shape).flatmap(positive)
    args, options = [draw(make(shape)), draw(unit(shape)), draw(weight)], {"reduction": draw(reductions)}
    return args, options | ({"pos_weight": draw(weight)} if logits else {})


@st.composite
def gaussian_cases(draw):
    shape = draw(st.lists(st.integers(1, 4), max_size=3).map(tuple))
    target = draw(broadcastable(shape))
    axis = draw(st.integers(0, max(0, len(shape) - 1)))
    var = draw(st.sampled_from([shape, shape[:-1], (*shape[:axis], 1, *shape[axis + 1 :])[: len(shape)]]))
    options = {"reduction": draw(reductions), "full": draw(st.booleans())}
    return [draw(moderate(shape)), draw(moderate(target)), draw(positive(var))], options


@st.composite
def label_cases(draw, probabilities):
    classes = draw(st.integers(1, 4))
    if draw(st.booleans()):
        shape = (draw(st.integers(0, 3)), *draw(st.lists(st.integers(1, 3), max_size=2)))
        x_shape = (shape[0], classes, *shape[1:])
    else:
        shape, x_shape = (), (classes,)
    options = {"reduction": draw(reductions)}
    if probabilities:
        options["label_smoothing"] = draw(st.sampled_from([0.0, 0.1, 1.0]))
    if probabilities and draw(st.booleans()):
        target = draw(unit(x_shape))
    else:
        count = prod(shape)
        labels = draw(st.lists(st.sampled_from([*range(classes), -100]), min_size=count, max_size=count))
        target = np.array(labels, np.int64).reshape(shape)
    weight = draw(st.none() | positive((classes,)))
    return [draw(elements(x_shape)), target, weight], options


@st.composite
def triplet_cases(draw):
    shape = (*draw(st.lists(st.integers(0, 4), max_size=2)), draw(st.integers(1, 4)))
    options = {
        "reduction": draw(reductions),
        "p": draw(st.sampled_from([0.5, 1, 1.5, 2.0, 3.0, inf])),
        "swap": draw(st.booleans()),
        "margin": draw(st.sampled_from([0.5, 1.0, 3.0])),
    }
    return [draw(elements(shape)) for _ in range(3)], options


@st.composite
def cosine_cases(draw):
    shape = draw(st.sampled_from([(), (0,), (1,), (4,)]))
    # Away from 0, where the cosine is too steep for differences.
    vectors = [draw(moved((*shape, 3), lambda a: a + np.where(a < 0, -0.5, 0.5))) for _ in range(2)]
    options = {"reduction": draw(reductions), "margin": draw(st.sampled_from([0.0, 0.3, -0.5]))}
    return [*vectors, draw(signs(shape))], options


pictures = st.tuples(st.integers(0, 2), st.integers(1, 2), st.integers(1, 4), st.integers(1, 4))
single = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4))


@st.composite
def picture_cases(draw, pair):
    shape = draw(pictures | single)
    x, options = draw(elements(shape)), {"reduction": draw(reductions)}
    # Apart, because the ratio of equal pictures is infinite.
    return ([x, x + draw(positive(shape))] if pair else [x]), options


@st.composite
def ssim_cases(draw):
    lead = draw(st.sampled_from([(1,), (2,), (0, 1), (1, 1), (2, 1)]))
    shape = (*lead, draw(st.integers(3, 5)), draw(st.integers(3, 5)))
    options = {
        "reduction": draw(reductions),
        "kernel_size": draw(st.sampled_from([1, 3])),
        "data_range": draw(st.sampled_from([1.0, 4.0])),
        "k2": 0.3,  # plain windows are too steep for differences with the paper's
    }
    return [draw(moderate(shape)), draw(moderate(shape))], options


def torch_kl_div(*args, **options):
    """Ask PyTorch, which warns of its own default."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.functional.kl_div(*args, **options)


CASES = {
    "mse_loss": Case(same_shape(elements, elements), naive.mse_loss),
    "l1_loss": Case(same_shape(elements, elements), naive.l1_loss),
    "smooth_l1_loss": Case(
        same_shape(elements, elements, beta=st.sampled_from([0.0, 0.3, 1.0, 2])), naive.smooth_l1_loss
    ),
    "huber_loss": Case(
        same_shape(elements, elements, delta=st.sampled_from([0.3, 1.0, 2])), naive.huber_loss
    ),
    "poisson_nll_loss": Case(
        same_shape(moderate, positive, full=st.booleans())
        | same_shape(positive, positive, full=st.booleans(), log_input=st.just(False)),
        naive.poisson_nll_loss,
    ),
    "gaussian_nll_loss": Case(gaussian_cases(), naive.gaussian_nll_loss),
    "binary_cross_entropy": Case(binary_cases(unit, False), naive.binary_cross_entropy),
    "binary_cross_entropy_with_logits": Case(
        binary_cases(elements, True), naive.binary_cross_entropy_with_logits
    ),
    "nll_loss": Case(label_cases(False), naive.nll_loss),
    "cross_entropy": Case(label_cases(True), naive.cross_entropy),
    "kl_div": Case(
        same_shape(elements, unit, reductions=reductions | st.just("batchmean"))
        | same_shape(elements, moderate, log_target=st.just(True)),
        naive.kl_div,
        torch=torch_kl_div,
    ),
    "hinge_embedding_loss": Case(
        same_shape(elements, signs, margin=st.sampled_from([1.0, 0.5, -1])), naive.hinge_embedding_loss
    ),
    "margin_ranking_loss": Case(
        same_shape(elements, elements, signs, margin=st.sampled_from([0.0, 0.5, -1])),
        naive.margin_ranking_loss,
    ),
    "soft_margin_loss": Case(same_shape(moderate, signs), naive.soft_margin_loss),  # torch overflows
    "triplet_margin_loss": Case(triplet_cases(), naive.triplet_margin_loss),
    "cosine_embedding_loss": Case(cosine_cases(), naive.cosine_embedding_loss),
    "psnr": Case(picture_cases(True), naive.psnr, torch=False),
    "ssim": Case(ssim_cases(), naive.ssim, torch=False),
    "total_variation": Case(picture_cases(False), naive.total_variation, torch=False),
}

PAIR = [(3, 4), (3, 4)]
UNITS = [("unit", (3, 4)), ("unit", (3, 4))]

CALLS = [
    ("mse_loss", PAIR, {}),
    ("l1_loss", PAIR, {}),
    ("smooth_l1_loss", PAIR, {"beta": 0.5}),
    ("huber_loss", PAIR, {"delta": 0.5, "reduction": "sum"}),
    ("poisson_nll_loss", [(3, 4), ("positive", (3, 4))], {"full": True}),
    ("poisson_nll_loss", [("positive", (3, 4)), ("positive", (3, 4))], {"log_input": False}),
    ("gaussian_nll_loss", [(3, 4), (4,), ("positive", (3,))], {"full": True}),
    ("binary_cross_entropy", [*UNITS, ("positive", (4,))], {}),
    ("binary_cross_entropy_with_logits", [(3, 4), UNITS[1], ("positive", (4,))], {"reduction": "none"}),
    ("nll_loss", [(5, 3), ("labels", (5,), 3)], {"reduction": "sum"}),
    ("cross_entropy", [(5, 3), ("labels", (5,), 3)], {}),
    ("cross_entropy", [(4, 3, 2), ("labels", (4, 2), 3), ("positive", (3,))], {"label_smoothing": 0.2}),
    ("cross_entropy", [(4, 3, 2), ("unit", (4, 3, 2)), ("positive", (3,))], {"label_smoothing": 0.2}),
    ("kl_div", [(3, 4), UNITS[1]], {"reduction": "batchmean"}),
    ("kl_div", PAIR, {"log_target": True}),
    ("hinge_embedding_loss", [(3, 4), ("signs", (3, 4))], {}),
    ("margin_ranking_loss", [*PAIR, ("signs", (3, 4))], {"margin": 0.5}),
    ("soft_margin_loss", [(3, 4), ("signs", (3, 4))], {}),
    ("triplet_margin_loss", [*PAIR, (3, 4)], {"swap": True, "p": 3.0}),
    ("cosine_embedding_loss", [*PAIR, ("signs", (3,))], {"margin": 0.1}),
]  # fmt: skip
