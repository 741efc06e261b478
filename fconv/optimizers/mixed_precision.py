"""Training in float16: float32 masters of the parameters, and a scaled loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from fconv import trees
from fconv.arguments.constructors import constructor
from fconv.arrays import Array, is_array, native, widened, xp_of
from fconv.optimizers.base import (
    Optimizer,
    State,
    as_optimizer,
    filled,
    inner_rate,
    inner_state,
    map_gradients,
)
from fconv.options import number, whole

__all__ = ["mixed_precision"]

_LARGEST_SCALE, _LEAST_SCALE = 2.0**24, 2.0**-14


@constructor
def mixed_precision(
    opt: Optimizer,
    *,
    init_scale: float = 2.0**15,
    growth_factor: float = 2.0,
    backoff_factor: float = 0.5,
    growth_interval: int = 2000,
) -> Optimizer:
    """Let an optimizer train parameters that are stored in float16.

    The steps are taken by float32 masters, of which the parameters are roundings, so that small
    steps are not lost. The loss is multiplied by a scale, so that small gradients are not either:
    `fconv.train_step` does so where it is given this optimizer, and takes the loss itself in
    float32. Where a gradient overflows, the step is skipped and the scale lowered; after
    `growth_interval` steps without one it is raised.

    Parameters
    ----------
    opt : Optimizer
        What takes the steps.
    init_scale : float
        The first scale, above 0, at most 2**24.
    growth_factor, backoff_factor : float
        What the scale is multiplied by when it is raised (above 1; up to 2**24) and lowered
        (between 0 and 1; down to 2**-14).
    growth_interval : int
        Steps without overflow before the scale is raised.

    Returns
    -------
    Optimizer
        Its state is ``{"scale", "good", "skipped", "masters", "optimizer"}``: the scale, the steps since
        it was changed, whether the last step was skipped (arrays of no axes, on the parameters'
        device), the float32 masters, the state of `opt`. Its `loss_scale` gives the scale of a state.

    Raises
    ------
    TypeError, ValueError
        `opt` is no optimizer, or an option is out of range.

    Notes
    -----
    Nothing waits for a GPU: a skipped step is computed and not taken. Counts of steps within the
    state of `opt`, and so its schedule, go on in a skipped step. Other wrappers, such as
    `clip_by_global_norm`, stand within this one.

    References
    ----------
    Micikevicius et al., "Mixed precision training", 2018; torch.amp.GradScaler.

    Examples
    --------
    >>> from fconv.optimizers import sgd
    >>> opt = mixed_precision(sgd(lr=1.0), init_scale=8.0)
    >>> p = np.zeros(2, np.float16)
    >>> state = opt.init(p)
    >>> p, state = opt.step(p, np.array([8.0, -16.0], np.float16), state)
    >>> p, bool(state["skipped"])
    (array([-1.,  2.], dtype=float16), False)
    >>> p, state = opt.step(p, np.array([np.inf, 1.0], np.float16), state)
    >>> p, bool(state["skipped"]), float(state["scale"])
    (array([-1.,  2.], dtype=float16), True, 4.0)
    """
    name = "mixed_precision"
    opt = as_optimizer(name, opt)
    first = number(name, "init_scale", init_scale, 0, above=True, most=_LARGEST_SCALE)
    growth = number(name, "growth_factor", growth_factor, 1, above=True)
    backoff = number(name, "backoff_factor", backoff_factor, 0, above=True)
    if backoff >= 1:
        raise ValueError(f"{name}: expected a backoff_factor below 1, got {backoff}")
    interval = whole(name, "growth_interval", growth_interval, 1)

    def init(params: Any) -> State:
        masters = trees.map(lambda p: widened(native(p)), params)
        xp = xp_of(next(iter(trees.leaves(params)), np.zeros(0)))
        return {
            "scale": xp.asarray(first, np.float32),
            "good": xp.asarray(0, np.int32),
            "skipped": xp.asarray(False),
            "masters": masters,
            "optimizer": opt.init(masters),
        }

    def step(params: Any, grads: Any, state: State) -> tuple[Any, State]:
        scale, xp = state["scale"], xp_of(state["scale"])
        params, grads = trees.map(native, params), filled("mixed_precision", params, grads)

        def followed(p: Array, g: Array | None, m: Array) -> Array:
            if g is not None:
                return m if p.dtype == np.float16 else p
            # What is not trained, such as running statistics, is as the forward pass has left it,
            # unless that has overflowed.
            return xp.where(xp.isfinite(p), widened(p), m) if p.dtype == np.float16 else p

        masters = trees.map(followed, params, grads, state["masters"])
        with np.errstate(over="ignore", invalid="ignore"):
            plain = map_gradients(name, lambda g: widened(g) / scale.astype(widened(g).dtype), params, grads)
            fine = xp.asarray(True)
            for g in trees.leaves(plain):
                fine = fine & xp.isfinite(g).all() if g is not None else fine
            moved, inner = opt.step(masters, plain, state["optimizer"])

            def chosen(new: Any, old: Any) -> Any:
                # Numbers that are counted on the host go on.
                if not is_array(new) or new is old:
                    return new
                return xp.where(fine, new, xp.zeros_like(new) if old is None else old)

            moved = trees.map(chosen, moved, masters)
            narrow = trees.map(lambda p, m: m.astype(p.dtype, copy=False), params, moved)
        # By path: an optimizer may begin to keep something, or let go of it.
        before = dict(trees.leaves_with_path(state["optimizer"]))
        good = xp.where(fine, state["good"] + 1, 0)
        raised = xp.where(good >= interval, xp.minimum(scale * growth, _LARGEST_SCALE), scale)
        return narrow, {
            "scale": xp.where(fine, raised, xp.maximum(scale * backoff, _LEAST_SCALE)).astype(np.float32),
            "good": xp.where(good >= interval, 0, good).astype(np.int32),
            "skipped": ~fine,
            "masters": moved,
            "optimizer": trees.map_with_path(lambda path, new: chosen(new, before.get(path)), inner),
        }

    return Optimizer(
        init, step, name, loss_scale=lambda state: state["scale"], lr=inner_rate(opt), within=inner_state(opt)
    )
