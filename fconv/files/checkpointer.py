"""Checkpoints of a run in a folder, one file a step."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from typing import Any

from fconv.files import locks
from fconv.files.atomic import make_folder, remove_leftovers
from fconv.files.checkpoint import check_path, load, save
from fconv.files.formats import extension
from fconv.options import whole


class Checkpointer:
    """Saves the states of a run, and finds the newest whole one after a crash.

    Parameters
    ----------
    directory : str or path-like
        The folder of the run. It is made at the first save. Files of other names in it are left
        alone.
    keep : int
        How many of the newest checkpoints are kept; at least 1. See Notes.
    every : int
        `save` saves the steps that are divisible by this.
    keep_every : int, optional
        Steps that are divisible by this are kept for good.
    suffix : str
        The format, as ``".safetensors"`` or ``".npz"``. Others are not looked for.

    Raises
    ------
    ValueError, TypeError
        A number below 1, or an unknown suffix.

    Notes
    -----
    After `save` there are exactly the `keep` newest checkpoints, or all where fewer were saved. At any
    other moment, also after any number of crashes, there are at most ``keep + 1``, the one that is
    being written included: the oldest is removed when the new one is on the disk, and what a crash
    left to remove is removed before the next one is written. Checkpoints of `keep_every` and damaged ones are
    not counted, and not removed.

    The first save takes a lock on the folder, which the system gives back however the process
    ends; a second process that saves there is refused. Reading needs no lock. Of several
    processes that train together, let one save.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> run = Checkpointer(tempfile.mkdtemp() + "/run", keep=2)
    >>> run.latest() is None
    True
    >>> for step in range(1, 5):
    ...     path = run.save(step, {"weight": np.full(2, step)})
    >>> run.steps(), os.path.basename(path)
    ([3, 4], 'step-00000004.safetensors')
    >>> run.latest()
    (4, {'weight': array([4, 4])})
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        keep: int = 3,
        every: int = 1,
        *,
        keep_every: int | None = None,
        suffix: str = ".safetensors",
    ) -> None:
        check_path("Checkpointer", directory)
        self._folder = os.path.abspath(os.fspath(directory))
        self._keep = whole("Checkpointer", "keep", keep, least=1)
        self._every = whole("Checkpointer", "every", every, least=1)
        self._keep_every = (
            None if keep_every is None else whole("Checkpointer", "keep_every", keep_every, least=1)
        )
        self._suffix = extension("Checkpointer", f"step{suffix}")
        self._names = re.compile(rf"step-(\d{{8,}}){re.escape(self._suffix)}")
        self._lock: locks.Lock | None = None
        self._whole: dict[int, bool] = {}  # what is known of the files by now

    def __repr__(self) -> str:
        return f"Checkpointer({self._folder!r}, keep={self._keep}, every={self._every})"

    def save(
        self, step: int, state: Any, metadata: Mapping[str, str] | None = None, *, force: bool = False
    ) -> str | None:
        """Save the state after a step, and then remove what is older than the ones to keep.

        Parameters
        ----------
        step : int
            Its number, 0 or more. Saving a step again replaces it.
        state : pytree
            As `fconv.save` takes it, for instance a `TrainState`.
        metadata : mapping of str to str, optional
            As `fconv.save` takes it.
        force : bool
            Save although the step is not divisible by `every`, for instance the last one.

        Returns
        -------
        str or None
            The file's name; None where nothing was to be saved.

        Raises
        ------
        ValueError
            There is a whole checkpoint of a later step: this run was not resumed from it, and
            a later crash would go on with the other. Or as `fconv.save` raises it.
        TypeError
            As `fconv.save` raises it.
        BlockingIOError
            Another process saves there.
        OSError
            The file cannot be written, or the folder not be flushed to the disk. What was there is
            there still.
        """
        number = whole("Checkpointer.save", "step", step, least=0)
        if number % self._every and not force:
            return None
        make_folder(self._folder)
        before, self._lock = self._lock, locks.lock("Checkpointer", self._folder)
        if self._lock is not before:
            remove_leftovers(self._folder, self._names)
        self._refuse_the_past(number)
        self._prune(number)
        path = self.path(number)
        save(path, state, metadata)
        self._whole[number] = True
        self._prune(number)
        return path

    def steps(self) -> list[int]:
        """List the steps that have a file, damaged ones included, the newest last."""
        try:
            names = set(os.listdir(self._folder))
        except FileNotFoundError:
            return []
        found = (int(match[1]) for name in names if (match := self._names.fullmatch(name)))
        return sorted(step for step in found if os.path.basename(self.path(step)) in names)

    def restore(self, step: int) -> Any:
        """Load the state of a step, every byte checked.

        Raises
        ------
        ValueError
            The file is damaged.
        OSError
            The file cannot be read; FileNotFoundError where there is none of this step.
        """
        return load(self.path(whole("Checkpointer.restore", "step", step, least=0)), mmap=False)

    def path(self, step: int) -> str:
        """Return the name of a step's file, whether there is one or not.

        Examples
        --------
        >>> Checkpointer("run").path(300) == os.path.abspath("run/step-00000300.safetensors")
        True
        """
        return os.path.join(self._folder, f"step-{step:08d}{self._suffix}")

    def latest(self) -> tuple[int, Any] | None:
        """Load the newest whole checkpoint.

        A damaged one is passed over, with a RuntimeWarning that names it and the reason, and
        stays where it is until the run saves that step again.

        Returns
        -------
        (int, pytree) or None
            The step and its state; None where there is no file of any step.

        Raises
        ------
        ValueError
            There are checkpoints, and none is whole: to begin again is for you to decide.
        OSError
            One cannot be read, which does not mean that it is damaged: too many files may be open, or the
            disk may have failed temporarily.
        """
        reasons: list[str] = []
        for step in reversed(self.steps()):
            try:
                state = self.restore(step)
                self._whole[step] = True
                return step, state
            except FileNotFoundError:  # a run that goes on has just removed it
                continue
            except ValueError as error:
                self._whole[step] = False
                reasons.append(f"{self.path(step)} is passed over: {error}")
                warnings.warn(f"Checkpointer: {reasons[-1]}", RuntimeWarning, stacklevel=2)
        if reasons:
            raise ValueError(
                f"Checkpointer: none of the {len(reasons)} checkpoints in {self._folder} is whole; "
                f"remove them to begin again"
            )
        return None

    def _refuse_the_past(self, step: int) -> None:
        """Refuse to save before a later whole checkpoint; damaged ones are no obstacle."""
        later = [other for other in self.steps() if other > step and self._is_whole(other)]
        if later:
            raise ValueError(
                f"Checkpointer: cannot save step {step}: {self._folder} has a checkpoint "
                f"of step {later[-1]}. Resume from it, remove the later ones, or use another folder"
            )

    def _is_whole(self, step: int) -> bool:
        """Read a step's file, once, to learn whether it is whole."""
        if step not in self._whole:
            try:
                self.restore(step)
                self._whole[step] = True
            except FileNotFoundError:
                return False
            except ValueError:
                self._whole[step] = False
        return self._whole[step]

    def _prune(self, newest: int) -> None:
        """Remove what is older than the ones to keep, of which the newest must be whole."""
        found = [step for step in self.steps() if step <= newest and self._whole.get(step, True)]
        try:
            while len(found) > self._keep and not self._is_whole(found[-1]):
                found.pop()
        except OSError:  # not known: the next save will prune
            return
        for step in found[: -self._keep]:
            if self._keep_every is not None and step % self._keep_every == 0:
                continue
            try:
                os.unlink(self.path(step))
            except FileNotFoundError:
                pass
            except OSError as error:  # the run is worth more than the room on the disk
                warnings.warn(
                    f"Checkpointer: cannot remove an old one: {error}", RuntimeWarning, stacklevel=3
                )
