"""Use a network that was trained and published with PyTorch, where PyTorch is not installed.

CHECKPOINT is a .pth or .pt file of DnCNN as KAIR publishes it (github.com/cszn/KAIR, model_zoo:
dncnn_25.pth and others), which takes noise away, or of ESPCN (github.com/Nhat-Thanh/ESPCN-Pytorch),
which enlarges; or network.safetensors of the examples noise2noise and super_resolution. What it is
for is told by the names and shapes in it. Nothing in the file is executed.

The picture goes through the network in tiles, with as much of their surroundings as the network
looks at, so that memory stays bounded and the result is that of the whole picture. By default a
photograph that comes with scikit-image is denoised from noise of the strength --sigma, or enlarged
from a smaller version of itself. Into --out go a sheet, the result as a picture, and results.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from noise2noise import NETWORKS as DENOISERS
from noise2noise import quality
from support import flags, pictures, plots, results
from tqdm import tqdm

import fconv as fc
from fconv.vision.colour import rgb_to_ycbcr, ycbcr_to_rgb
from fconv.vision.images import Picture, cubically_resized, write_image
from fconv.vision.tiling import apply_tiled, reach, stride

_WHOLE = 1 << 20  # pixels of the largest picture that is also computed in one piece, to compare


class Pretrained(NamedTuple):
    """A network with its parameters: of `channels`, enlarging `scale` times (1: it denoises)."""

    title: str
    net: fc.Layer
    params: Any
    channels: int
    scale: int


def read(path: str) -> Pretrained:
    """Build the network that a checkpoint belongs to, and put its weights in."""
    weights = fc.find_state_dict(fc.load(path))  # the state dict, wherever in the checkpoint it lies
    about = fc.load_metadata(path) if path.endswith(".safetensors") else {}
    if {"conv_1.weight", "conv_3.weight"} <= weights.keys():  # ESPCN
        first, last = kernel(weights, "conv_1.weight"), kernel(weights, "conv_3.weight")
        channels = first.shape[1]
        scale = round((last.shape[0] / channels) ** 0.5)
        title, net = f"ESPCN x{scale}", fc.models.espcn(scale, channels)
    elif "model.0.weight" in weights:  # DnCNN: every second number is a convolution
        layers = sum(name.endswith("weight") for name in weights)
        (width, channels, *_), scale = kernel(weights, "model.0.weight").shape, 1
        net = fc.models.dncnn(channels, layers=layers, width=width)
        title = f"DnCNN of {layers} layers"
    elif about.get("network") == "fsrcnn":
        channels, scale = 1, int(about["scale"])
        title, net = f"FSRCNN x{scale}", fc.models.fsrcnn(scale)
    elif about.get("network") in DENOISERS:
        title, channels, scale = about["network"], 3, 1
        net = DENOISERS[about["network"]]()
    else:
        raise ValueError(
            f"{path} is of no network known here; its names begin {', '.join(list(weights)[:3])}"
        )
    params = net.init(fc.random.key(0), (1, channels, 64, 64))
    return Pretrained(title, net, fc.from_state_dict(params, weights), channels, scale)


def kernel(weights: Any, name: str) -> Any:
    """Return the filters of a convolution."""
    if weights[name].ndim != 4:
        raise ValueError(f"{name}: expected filters of 4 axes, got shape {weights[name].shape}")
    return weights[name]


def given(model: Pretrained, photo: Any, sigma: float) -> Any:
    """Make what the network is given: the photograph with noise, or a smaller one."""
    if model.scale == 1:
        return fc.data.gaussian_noise(fc.random.key(25), photo, sigma / 255)
    return cubically_resized(photo, tuple(n // model.scale for n in photo.shape[1:]))


def batch_of(model: Pretrained, picture: Any) -> Any:
    """Return a picture as the network takes it: colours one by one, or luma and colour differences."""
    if model.scale > 1:
        return rgb_to_ycbcr(picture)[None, : model.channels]
    return picture[:, None] if model.channels == 1 else picture[None]


def picture_of(model: Pretrained, y: Any, small: Any) -> Any:
    """Return the network's result as red, green and blue."""
    if model.scale == 1:
        return np.clip(y[:, 0] if model.channels == 1 else y[0], 0, 1)
    planes = y[0]
    if model.channels == 1:
        colours = cubically_resized(rgb_to_ycbcr(small)[1:], y.shape[2:])
        planes = np.concatenate([planes, colours])
    return np.clip(ycbcr_to_rgb(planes), 0, 1)


def peak_megabytes() -> float | None:
    """Return the most memory that this process has had; None on a system that does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 << 20 if sys.platform == "darwin" else 1024
    )


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="pretrained", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="the published file")
    add("--data", metavar="FILE", help="a picture of good quality (default: the cat of scikit-image)")
    add("--sigma", type=flags.at_least_zero, default=25.0, metavar="S",
        help="deviation of the noise, of 255 (default: 25)")  # fmt: skip
    add("--tile", type=flags.at_least_one, default=128, metavar="N",
        help="height and width of a tile (default: 128)")  # fmt: skip
    add("--out", type=Path, default=Path("out/pretrained"), metavar="DIR",
        help="folder for results (default: out/pretrained)")  # fmt: skip
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Apply, compare, show; give the qualities."""
    args = arguments(argv)
    with results.in_one_line("pretrained"):
        results.prepare(args.out)
        model = read(args.checkpoint)
        photo = pictures.one(args.data)
        photo = np.repeat(photo, 3, axis=0) if len(photo) == 1 else photo
        step = stride(model.net, model.channels) * model.scale
        photo = photo[:, : photo.shape[1] // step * step, : photo.shape[2] // step * step]
        if min(photo.shape[1:]) < 16 * model.scale:
            height, width = photo.shape[1:]
            raise ValueError(f"the picture of {height}x{width} is smaller than {16 * model.scale} pixels")
        small = given(model, photo, args.sigma)
        x = batch_of(model, small).astype(np.float32)
        around = reach(model.net, model.params, model.channels)
        size = f"{x.shape[2]}x{x.shape[3]}"
        print(f"{model.title}: {size} pixels in tiles of {args.tile} and {around} around them")

        start = time.perf_counter()
        with tqdm(unit=" tiles", dynamic_ncols=True) as bar:

            def progress(done: int, count: int) -> None:
                bar.total = count
                bar.update(done - bar.n)

            y = apply_tiled(model.net, model.params, x, tile=args.tile, overlap=around, progress=progress)
        took = time.perf_counter() - start
        peak = peak_megabytes()
        difference = None  # of a picture that is small enough to be computed whole as well
        if x.shape[2] * x.shape[3] <= _WHOLE:
            difference = float(np.abs(y - model.net.apply(model.params, x)).max())

        after = picture_of(model, y, small)
        if model.scale == 1:
            before, name = np.clip(small, 0, 1), f"noise of {args.sigma:g}"
        else:
            before, name = np.clip(cubically_resized(small, photo.shape[1:]), 0, 1), "cubic"
        (psnr, ssim), (base, base_ssim) = quality(after, photo), quality(before, photo)
        captions = (
            f"{name}: {base:.2f} dB, SSIM {base_ssim:.3f}",
            f"{psnr:.2f} dB, SSIM {ssim:.3f}",
            "original",
        )
        plots.sheet(
            args.out / "before_after.png", [list(zip(captions, (before, after, photo), strict=True))],
            f"{model.title}, from {Path(args.checkpoint).name}", zoom=True,
        )  # fmt: skip
        write_image(args.out / "result.png", Picture(after))
        figures = {
            "before_psnr": base, "psnr": psnr, "ssim": ssim, "seconds": took,
            "tiled_and_whole_differ_by": difference, "peak_megabytes_before_the_whole": peak,
        }  # fmt: skip
        results.write_json(args.out / "results.json", "pretrained", args, figures)
        compared = "" if difference is None else f"; tiled and whole differ by at most {difference:.1e}"
        print(f"{took:.1f} s{compared}")
        print(f"saved before_after.png, result.png and results.json in {args.out}")
        print(f"{name} {base:.2f} dB, {model.title} {psnr:.2f} dB")
    return figures


if __name__ == "__main__":
    main()
