"""fconv diff."""

from __future__ import annotations

from dataclasses import asdict

import click

from fconv.cli.printing import echo, plural, show_json, table

_MOST_SHOWN = 50


@click.command()
@click.argument("a", type=click.Path(exists=True, dir_okay=False))
@click.argument("b", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=0.0, metavar="NUMBER",
    help="Pass over absolute differences up to this.  [default: 0]",
)  # fmt: skip
@click.option("--ignore-dtype", is_flag=True, help="Entries may differ in dtype.")
@click.option("--entry", metavar="NAME", help="Which part of nested files, such as state_dict.")
@click.option("--all", "show_all", is_flag=True, help=f"Show all differences, not the {_MOST_SHOWN} largest.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def diff(
    ctx: click.Context, a: str, b: str, tolerance: float, ignore_dtype: bool, entry: str | None,
    show_all: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare the weights in two files, of whatever formats.

    Shown are the entries that only A has, only B has, that have another shape or dtype, and the largest
    absolute and relative difference of each that differs. The exit status is 0 where the files are
    equal, 1 where they differ, 2 where they could not be compared.

    \b
    Examples:
      fconv diff net.pt net.safetensors && echo equal
      fconv diff epoch9.npz epoch10.npz --tolerance 1e-6
    """
    from fconv.tools.comparison import compare
    from fconv.tools.weights import read_weights

    left, right = read_weights(a, entry), read_weights(b, entry)
    found = compare(left.arrays, right.arrays)
    equal = found.equal(tolerance, dtypes=not ignore_dtype)
    if as_json:
        show_json({"equal": equal, "tolerance": tolerance, **asdict(found)})
        ctx.exit(0 if equal else 1)
    for title, shapes in ((f"only in {a}", found.missing), (f"only in {b}", found.unexpected)):
        _block(title, [(name, str(shape)) for name, shape in shapes.items()])
    _block("of other shape", [(name, f"{x} {y}") for name, (x, y) in found.misshapen.items()])
    _block("of other dtype", [(name, f"{x} {y}") for name, (x, y) in found.retyped.items()])
    beyond = sorted(found.beyond(tolerance), key=lambda d: -d.absolute)
    shown = beyond if show_all else beyond[:_MOST_SHOWN]
    if shown:
        rows = [("differing", "absolute", "relative")]
        rows += [(d.name, f"{d.absolute:.3g}", f"{d.relative:.3g}") for d in shown]
        echo(*table(rows, "<>>"))
        if len(shown) < len(beyond):
            echo(f"and {len(beyond) - len(shown):,} more (--all)")
    alike = len(found.differences) - len(beyond)
    within = f" within {tolerance:g}" if tolerance else ""
    echo(f"{plural(alike, 'entry', 'entries')} equal{within}, {len(beyond):,} differing")
    ctx.exit(0 if equal else 1)


def _block(title: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        echo(title)
        echo(*table(rows, "<<", indent=2))
