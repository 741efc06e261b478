"""fconv inspect."""

from __future__ import annotations

import os

import click

from fconv.cli.printing import echo, plural, show_json, size, table

_HIDDEN = ("fconv.structure",)  # what a file says to rebuild its tree, which nobody reads


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(file: str, as_json: bool) -> None:
    """List what FILE holds: names, shapes, dtypes, sizes, totals, metadata.

    Dtypes are those in the file: bfloat16 is shown as such, although NumPy would have it widened.

    \b
    Examples:
      fconv inspect resnet18.pth
      fconv inspect net.safetensors --json | jq '.entries[].name'
    """
    from math import prod

    from fconv.tools.inspection import describe, other_values

    found = describe(file)
    others = other_values(file, found)
    texts = {key: text for key, text in found.texts.items() if key not in _HIDDEN}
    numbers = sum(prod(entry.shape) for entry in found.entries)
    total = sum(entry.nbytes for entry in found.entries)
    if as_json:
        show_json(
            {
                "file": file,
                "format": found.format.lstrip("."),
                "file_bytes": os.path.getsize(file),
                "entries": [
                    {"name": e.name, "shape": list(e.shape), "dtype": e.dtype, "bytes": e.nbytes}
                    for e in found.entries
                ],
                "numbers": numbers,
                "bytes": total,
                "values": {
                    name: v if isinstance(v, (int, float, str, bool)) else str(v)
                    for name, v in others.items()
                },
                "metadata": texts,
            }
        )
        return
    echo(f"{file}: {found.format.lstrip('.')}, {size(os.path.getsize(file))}")
    rows = [("name", "shape", "dtype", "bytes")]
    rows += [(e.name, str(tuple(e.shape)), e.dtype, f"{e.nbytes:,}") for e in found.entries]
    echo(*table(rows, "<<<>", indent=2))
    echo(f"{plural(len(found.entries), 'entry', 'entries')}, {plural(numbers, 'number')}, {size(total)}")
    for title, values in (("values", others), ("metadata", texts)):
        if values:
            echo(title)
            echo(*(f"  {name}: {_short(value)}" for name, value in values.items()))


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:197] + "..."
