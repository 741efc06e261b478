"""fconv predict."""

from __future__ import annotations

from typing import Any

import click

from fconv.cli.networks import complete_model, model_options, network
from fconv.cli.options import numbers, rename_option
from fconv.cli.options import shape as read_shape
from fconv.cli.printing import echo, show_json


@click.command()
@click.argument("model", shell_complete=complete_model)
@click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False)
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False),
    help="The network's weights, in any format that fconv inspect reads; not for an .onnx file.",
)
@click.option("--entry", metavar="NAME", help="Which part of the file of weights.")
@rename_option
@model_options
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False),
    help="Names of the classes: one a line, a JSON list, or a JSON object by number.",
)
@click.option("--top", type=click.IntRange(min=1), default=5, help="How many classes to show.  [default: 5]")
@click.option(
    "--shape", metavar="N,C,H,W", callback=read_shape, help="Input shape.  [default: the network's usual]"
)
@click.option(
    "--resize",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Length of the shorter side before the middle is cut out.  [default: 256 for 224]",
)
@click.option(
    "--mean", metavar="X,...", callback=numbers, help="Of each channel.  [default: ImageNet's; 0 for grey]"
)
@click.option(
    "--std", metavar="X,...", callback=numbers, help="Of each channel.  [default: ImageNet's; 1 for grey]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(
    model: str, images: tuple[str, ...], weights: str | None, entry: str | None,
    rename: dict[str, str], option: dict[str, Any],
    labels: str | None, top: int, shape: tuple[int, ...] | None, resize: int | None,
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, as_json: bool,
) -> None:  # fmt: skip
    """Classify pictures: print the likeliest classes and their probabilities.

    MODEL is as for fconv summary. The number of classes is read from the weights. A picture is resized,
    cut and normalised as the network's input asks: ImageNet's mean and deviation for colour.

    \b
    Examples:
      fconv predict resnet18 cat.jpg dog.jpg --weights resnet18.pth --labels imagenet.json
      fconv predict lenet digit.png --weights lenet.npz --mean 0.1307 --std 0.3081
    """
    import fconv as fc
    from fconv.models import MODELS
    from fconv.tools.weights import params_from, read_weights, renamed, without_wrapper
    from fconv.vision.classifying import class_names, most_likely, prepare, settings
    from fconv.vision.guessing import options_in
    from fconv.vision.images import read_image

    in_file = model.lower().endswith(".onnx")
    if (weights is None) != in_file:
        raise click.UsageError("an .onnx file has its weights in it" if in_file else "--weights is needed")
    if model in MODELS and MODELS[model].task != "classification":
        raise ValueError(f"predict: expected a classifier, got {model}, which is for {MODELS[model].task}")
    names = class_names(labels) if labels else None
    arrays = {} if weights is None else without_wrapper(renamed(read_weights(weights, entry).arrays, rename))
    usual = None
    if model in MODELS:
        seen, usual = options_in(model, arrays, shape)
        option = {**seen, **option}
    found = network(model, option)
    wanted_shape = shape or usual or found.shape
    if wanted_shape is None:
        raise click.UsageError(f"--shape is needed: {model} has no usual input shape")
    if len(wanted_shape) != 4:
        raise ValueError(f"predict: expected a shape N,C,H,W, got {wanted_shape}")
    wanted_shape = (1, *wanted_shape[1:])
    wanted = settings(wanted_shape, resize=resize, mean=mean, std=std)
    out_shape = found.net.out_shape(wanted_shape)
    if not isinstance(out_shape, tuple) or len(out_shape) != 2:
        raise ValueError(f"predict: expected a network that gives (N, classes), got {out_shape}")
    if names is not None and len(names) != out_shape[1]:
        raise ValueError(f"predict: {labels} names {len(names)} classes, and the network has {out_shape[1]}")
    params = found.params if in_file else params_from(found.net, wanted_shape, arrays)
    results = []
    for path in images:
        likely = most_likely(
            fc.to_device(found.net.apply(params, prepare(read_image(path), wanted))[0], "cpu"), top
        )
        entries = [{"class": i, "label": names[i] if names else None, "probability": p} for i, p in likely]
        results.append({"image": path, "classes": entries})
        if not as_json:
            echo(path)
            for i, probability in likely:
                echo(f"  {probability:7.2%}  {names[i] if names else i}")
    if as_json:
        show_json(results)
