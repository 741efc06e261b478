"""Schedules of the learning rate: functions of the number of steps taken before.

A schedule is any function ``schedule(count) -> learning rate``: 0 is the count of an optimizer's first
step. Those made here follow torch.optim.lr_scheduler's closed forms, and give Python floats. The
first argument of each is the rate that torch's schedulers find in their optimizer.
"""

from fconv.schedules.decay import constant, cosine, exponential, linear, multistep, polynomial, step
from fconv.schedules.phases import join, one_cycle, warmup

__all__ = [
    "constant",
    "cosine",
    "exponential",
    "join",
    "linear",
    "multistep",
    "one_cycle",
    "polynomial",
    "step",
    "warmup",
]
