"""fconv summary and fconv models."""

from __future__ import annotations

import io
import shutil
import sys
from dataclasses import asdict
from typing import Any

import click

from fconv.cli.networks import complete_model, model_options, network
from fconv.cli.options import shape as read_shape
from fconv.cli.printing import echo, show_json, table


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.option(
    "--shape",
    metavar="N,C,H,W",
    callback=read_shape,
    help="Input shape, batch axis included.  [default: the network's usual]",
)
@model_options
@click.option("--dtype", type=click.Choice(["float16", "float32", "float64"]), default="float32",
              help="Of parameters and outputs, for the memory.  [default: float32]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def summary(
    model: str, shape: tuple[int, ...] | None, option: dict[str, Any], dtype: str, as_json: bool
) -> None:
    """Show the layers of MODEL: output shapes, parameters, multiply-adds, memory.

    MODEL is a name that `fconv models` lists, an .onnx file, or package.module:function, a function of
    yours that gives a network (the module is imported, which runs it).

    \b
    Examples:
      fconv summary resnet18 --shape 1,3,224,224
      fconv summary vgg16 --shape 8,3,224,224 --option num_classes=10
      fconv summary net.onnx --shape 1,3,64,64
      fconv summary mine.networks:tiny --shape 1,1,28,28
    """
    import fconv as fc

    found = network(model, option)
    wanted = shape or found.shape
    if wanted is None:
        raise click.UsageError(f"--shape is needed: {model} has no usual input shape")
    whole = fc.summary(found.net, wanted, dtype, file=io.StringIO())
    if as_json:
        show_json({"model": model, "shape": list(wanted), **asdict(whole)})
        return
    text = str(whole)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(line[:width] for line in text.splitlines())
    echo(*text.split("\n"))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(as_json: bool) -> None:
    """List the networks that fconv.models builds by name.

    Each takes options of its own (fconv summary NAME --option ...), and has the parameter names of the
    PyTorch implementation in the last column, so that its published weights fit.
    """
    from fconv.models import MODELS

    if as_json:
        show_json(
            [
                {
                    "name": m.name,
                    "task": m.task,
                    "input_shape": m.input_shape,
                    "source": m.source,
                    "names": m.names,
                }
                for m in MODELS.values()
            ]
        )
        return
    rows = [("name", "task", "usual input", "names of")]
    rows += [(m.name, m.task, ",".join(map(str, m.input_shape)), m.names) for m in MODELS.values()]
    echo(*table(rows, "<<<<"))
