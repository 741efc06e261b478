"""fconv convert."""

from __future__ import annotations

import os
from typing import Any

import click

from fconv.cli.networks import model_options, network
from fconv.cli.options import rename_option
from fconv.cli.options import shape as read_shape
from fconv.cli.printing import echo, plural, size
from fconv.showing import listed


@click.command()
@click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False))
@click.argument("target", metavar="OUT", type=click.Path(dir_okay=False))
@click.option("--entry", metavar="NAME", help="Which part of a nested file, such as state_dict.")
@rename_option
@click.option(
    "--strip-prefix", metavar="TEXT", help="Take TEXT from the beginning of every name that has it."
)
@click.option("--add-prefix", metavar="TEXT", help="Put TEXT before every name, after all renaming.")
@click.option(
    "--only", metavar="PATTERN", multiple=True,
    help="Keep the entries whose new name fits, such as 'layer1.*'. May be repeated.",
)  # fmt: skip
@click.option(
    "--drop", metavar="PATTERN", multiple=True, help="Leave out entries, such as 'fc.*'. May be repeated."
)
@click.option(
    "--dtype", type=click.Choice(["float16", "float32", "float64"]),
    help="Convert floating-point entries; integers stay.",
)  # fmt: skip
@click.option("--model", metavar="MODEL", help="The network, for an OUT of .onnx; see fconv summary --help.")
@model_options
@click.option(
    "--shape",
    metavar="N,C,H,W",
    callback=read_shape,
    help="Its input shape, for an OUT of .onnx.  [default: the network's usual]",
)
@click.option("--force", is_flag=True, help="Overwrite OUT.")
def convert(
    source: str, target: str, entry: str | None, rename: dict[str, str], strip_prefix: str | None,
    add_prefix: str | None, only: tuple[str, ...], drop: tuple[str, ...], dtype: str | None,
    model: str | None, option: dict[str, Any], shape: tuple[int, ...] | None, force: bool,
) -> None:  # fmt: skip
    """Convert the weights in IN to the format that OUT's extension names.

    IN is .safetensors, .npz, .pt, .pth, .th, .tar or .onnx, or of another name, such as .ckpt and .bin, and
    recognised by its contents; OUT any of those extensions. What an IN holds besides
    weights (optimizer states, counters) is left out, and the command says so. OUT appears when it is
    complete, and is not overwritten without --force.

    \b
    Examples:
      fconv convert resnet18.pth resnet18.safetensors
      fconv convert run.tar net.npz --entry state_dict --rename module.= --drop 'fc.*'
      fconv convert net.pt half.safetensors --dtype float16
      fconv convert resnet18.pth resnet18.onnx --model resnet18 --shape 1,3,224,224
    """
    import fconv as fc
    from fconv.files.formats import extension
    from fconv.models import MODELS
    from fconv.tools.inspection import user_metadata
    from fconv.tools.weights import cast, params_from, read_weights, renamed, selected
    from fconv.vision.guessing import options_in

    to_onnx = os.path.splitext(target)[1].lower() == ".onnx"
    if to_onnx and model is None:
        raise click.UsageError("an OUT of .onnx holds the network too: name it with --model")
    if not to_onnx and (model is not None or option or shape is not None):
        raise click.UsageError("--model, --option and --shape are for an OUT of .onnx")
    if not to_onnx:
        extension("convert", target)
    if os.path.exists(target):
        if os.path.samefile(source, target):
            raise ValueError(f"convert: {target} is IN itself")
        if not force:
            raise ValueError(f"convert: {target} exists; --force overwrites it")
    found = read_weights(source, entry)
    if strip_prefix:
        if strip_prefix in rename:
            raise click.UsageError(f"--rename and --strip-prefix both speak of {strip_prefix!r}")
        rename = {**rename, strip_prefix: ""}
    arrays = renamed(found.arrays, rename) if rename else found.arrays
    if add_prefix:
        arrays = {add_prefix + name: x for name, x in arrays.items()}
    kept = selected(arrays, only, drop)
    if not kept:
        raise ValueError("convert: nothing is left to write")
    if dtype:
        kept = cast(kept, dtype)
    if to_onnx:
        assert model is not None
        seen_shape = None
        if model in MODELS and MODELS[model].task == "classification":
            seen, seen_shape = options_in(model, kept, shape)
            option = {**seen, **option}
        net, _, usual = network(model, option)
        shape = shape or seen_shape or usual
        if shape is None:
            raise click.UsageError(f"--shape is needed: {model} has no usual input shape")
        params = params_from(net, shape, kept, dtype or "float32")
        fc.to_onnx(net, params, shape, target)
    else:
        fc.save(target, kept, user_metadata(source))
    _report(source, target, found, kept, [name for name in arrays if name not in kept])


def _report(source: str, target: str, found: Any, kept: dict[str, Any], dropped: list[str]) -> None:
    where = f" ({found.entry})" if found.entry else ""
    entries, written = plural(len(kept), "entry", "entries"), size(os.path.getsize(target))
    echo(f"{source}{where} -> {target}: {entries}, {written}")
    if found.left_out:
        echo(f"left out of {source}: {listed(_heads(found.left_out, found.entry), 6)}")
    if dropped:
        echo(f"not chosen: {listed(dropped, 6)}")


def _heads(names: list[str], entry: str) -> list[str]:
    """Name a part of a file once, however much there is in it."""
    around = {entry[:i] for i in range(len(entry)) if entry[i] == "."}
    heads = []
    for name in names:
        head, _, rest = name.partition(".")
        while head in around and rest:
            part, _, rest = rest.partition(".")
            head = f"{head}.{part}"
        heads.append(head)
    return list(dict.fromkeys(heads))
