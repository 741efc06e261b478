"""fconv denoise and fconv upscale."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fconv.cli.networks import network
from fconv.cli.options import rename_option
from fconv.cli.printing import echo, progress

F = TypeVar("F", bound=Callable[..., Any])


def _common(command: F) -> F:
    """Add what both commands take."""
    for option in (
        click.option("--force", is_flag=True, help="Overwrite OUT; never IN."),
        click.option("--tile", type=click.IntRange(min=1), default=256, metavar="PIXELS",
                     help="Side of the pieces that the picture is computed in.  [default: 256]"),
        rename_option,
        click.option("--entry", metavar="NAME", help="Which part of the file of weights."),
        click.option("--weights", required=True, type=click.Path(exists=True, dir_okay=False),
                     help="The network's weights, in any format that fconv inspect reads."),
        click.argument("target", metavar="OUT", type=click.Path(dir_okay=False)),
        click.argument("source", metavar="IN", type=click.Path(exists=True, dir_okay=False)),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command()
@_common
@click.option(
    "--model",
    metavar="NAME",
    help="One that `fconv models` lists for denoising, seen in the weights where that is clear; "
    "or package.module:function.",
)
@click.option(
    "--sigma", type=click.FloatRange(min=0), metavar="NUMBER",
    help="First add normal noise of this deviation (of 255), and print how well it was taken away.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of that noise.  [default: 0]")
def denoise(
    source: str, target: str, weights: str, entry: str | None, rename: dict[str, str], tile: int, force: bool,
    model: str | None, sigma: float | None, seed: int,
) -> None:  # fmt: skip
    """Take the noise from the picture IN and write OUT.

    Grey pictures of 8 or 16 bits and colour ones of 8 are read, alpha is kept. A network for grey
    pictures denoises the colours one by one. A large picture is computed in tiles that overlap by as
    much as the network sees, so the result is the same and memory stays bounded.

    \b
    Examples:
      fconv denoise noisy.png clean.png --weights dncnn_25.pth
      fconv denoise photo.png demo.png --weights dncnn_25.pth --sigma 25
    """
    from fconv import metrics
    from fconv.vision.images import read_image, write_image
    from fconv.vision.restoring import denoised, with_noise

    _check_names(source, target, force)
    picture = read_image(source)
    _check_target(target, picture)
    guess, net, params = _network(weights, entry, rename, "denoising", model, None)
    given = picture if sigma is None else with_noise(picture, sigma / 255, seed)
    out = denoised(net, params, guess.channels, given, tile=tile, progress=progress("denoise"))
    write_image(target, out)
    _report(source, target, guess, out)
    if sigma is not None:
        before, after = (metrics.psnr(x.pixels[None], picture.pixels[None]) for x in (given, out))
        echo(f"noise of {sigma:g}: {before:.2f} dB, denoised: {after:.2f} dB")


@click.command()
@_common
@click.option(
    "--factor", type=click.IntRange(min=2), metavar="N", help="How many times larger; seen in most weights."
)
@click.option(
    "--model",
    metavar="NAME",
    help="One that `fconv models` lists for super-resolution, seen in the weights where that is clear; "
    "or package.module:function.",
)
@click.option(
    "--colours", type=click.Choice(["ycbcr", "rgb"]),
    help="What three channels of the network are.  [default: ycbcr for espcn, otherwise rgb]",
)  # fmt: skip
def upscale(
    source: str, target: str, weights: str, entry: str | None, rename: dict[str, str], tile: int, force: bool,
    model: str | None, factor: int | None, colours: str | None,
) -> None:  # fmt: skip
    """Make the picture IN larger and write OUT.

    Grey pictures of 8 or 16 bits and colour ones of 8 are read. A network of one channel enlarges the
    luma, cubic interpolation the colours; alpha is interpolated. A large picture is computed in tiles
    that overlap by as much as the network sees, so the result is the same and memory stays bounded.

    \b
    Examples:
      fconv upscale small.png large.png --weights ESPCN-x3.pt --factor 3
      fconv upscale small.png large.png --weights fsrcnn_x2.pth --factor 2 --model fsrcnn
    """
    from fconv.vision.guessing import likely_factor
    from fconv.vision.images import read_image, write_image
    from fconv.vision.restoring import upscaled

    _check_names(source, target, force)
    picture = read_image(source)
    _check_target(target, picture)
    guess, net, params = _network(weights, entry, rename, "super-resolution", model, factor)
    found = net.out_shape((1, guess.channels, 16, 16))[2] // 16
    if factor is not None and found != factor:
        raise ValueError(f"{weights} holds a network for {found} times, not {factor}; write --factor {found}")
    seems = likely_factor(net, params, guess)
    if seems is not None and seems != found:
        raise ValueError(
            f"{weights}: with --factor {found} a flat grey picture does not stay grey, with {seems} it does; "
            f"write --factor {seems}"
        )
    luma = colours == "ycbcr" if colours else guess.name == "espcn"
    out = upscaled(net, params, guess.channels, picture, tile=tile, luma=luma, progress=progress("upscale"))
    write_image(target, out)
    _report(source, target, guess, out)


def _check_names(source: str, target: str, force: bool) -> None:
    if os.path.exists(target):
        if os.path.samefile(source, target):
            raise ValueError(f"{target} is IN itself, which is never overwritten")
        if not force:
            raise ValueError(f"{target} exists; --force overwrites it")


def _check_target(target: str, picture: Any) -> None:
    """Refuse a format that cannot hold the result before any work is done."""
    from fconv.vision.images import check_writable

    check_writable(target, alpha=picture.alpha is not None, bits=picture.bits)


def _network(
    weights: str, entry: str | None, rename: dict[str, str], task: str, name: str | None, factor: int | None
) -> tuple[Any, Any, Any]:
    from fconv.tools.weights import params_from, read_weights, renamed, without_wrapper
    from fconv.vision.guessing import Guess, guess_model

    arrays = without_wrapper(renamed(read_weights(weights, entry).arrays, rename))
    if name is not None and ":" in name:
        net = network(name, {}).net
        try:  # colour, or else grey
            return Guess(name, {}, 3), net, params_from(net, (1, 3, 64, 64), arrays)
        except ValueError:
            return Guess(name, {}, 1), net, params_from(net, (1, 1, 64, 64), arrays)
    try:
        guess = guess_model(arrays, task, name=name, factor=factor)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None
    net = guess.build()
    return guess, net, params_from(net, (1, guess.channels, 64, 64), renamed(arrays, guess.renames))


def _report(source: str, target: str, guess: Any, picture: Any) -> None:
    height, width = picture.pixels.shape[1:]
    options = ", ".join(f"{key}={value}" for key, value in guess.options.items())
    echo(f"{source} -> {target}: {width}x{height}, by {guess.name}({options})")
