"""Tables, sizes, JSON and progress on a terminal or in a pipe."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from fconv.showing import printable

Progress = Callable[[int, int], None] | None


def echo(*lines: str, err: bool = False) -> None:
    """Print lines, escaping what the terminal would obey: names and texts in files are anybody's."""
    click.echo("\n".join(map(printable, lines)), err=err)


def table(rows: Sequence[Sequence[str]], align: str, indent: int = 0) -> list[str]:
    """Lay out rows in columns.

    On a terminal that is too narrow the first column is shortened in its middle; in a pipe nothing is.

    Parameters
    ----------
    rows : sequence of sequence of str
        Of equal length.
    align : str
        ``"<"`` or ``">"`` for each column.
    indent : int
        Spaces before each line.

    Returns
    -------
    list of str
        The lines.
    """
    if not rows:
        return []
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(align))]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - indent - sum(widths[1:]) - 2 * (len(widths) - 1)
        widths[0] = max(12, min(widths[0], room))
    lines = []
    for row in rows:
        cells = [shortened(row[0], widths[0]), *row[1:]]
        line = "  ".join(
            f"{cell:{way}{width}}" for cell, way, width in zip(cells, align, widths, strict=True)
        )
        lines.append((" " * indent + line).rstrip())
    return lines


def shortened(text: str, width: int) -> str:
    """Cut the middle from a text that is too long."""
    if len(text) <= width:
        return text
    left = (width - 3) // 2
    return f"{text[:left]}...{text[len(text) - (width - 3 - left) :]}"


def size(count: float) -> str:
    """Return a number of bytes in a unit that is easy to read.

    Examples
    --------
    >>> size(999), size(46_800_000)
    ('999 B', '46.8 MB')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def plural(count: int, what: str, many: str | None = None) -> str:
    """Count things.

    Examples
    --------
    >>> plural(1, "entry", "entries"), plural(2, "picture")
    ('1 entry', '2 pictures')
    """
    return f"{count:,} {what if count == 1 else many or what + 's'}"


def show_json(value: Any) -> None:
    """Print a value as JSON, which escapes control characters; what JSON lacks, as infinity, as text."""
    click.echo(json.dumps(_plain(value), indent=2, allow_nan=False).replace("\x7f", "\\u007f"))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def progress(what: str) -> Progress:
    """Return a function that shows how far a work has come on the terminal; None where there is none."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        text = f"\r{what}: {done} of {of} tiles" if done < of else "\r" + " " * 40 + "\r"
        click.echo(text, err=True, nl=False)

    return show
