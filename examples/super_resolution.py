"""Learn to enlarge photographs two, three or four times, better than cubic interpolation does.

ESPCN computes at the small size and ends with a shuffle of channels into pixels (Shi et al.,
2016); FSRCNN ends with a transposed convolution (Dong et al., 2016). As in both papers, the
network enlarges the luma, to which the eye is sensitive, and cubic interpolation the colours.

By default the pictures are photographs that come with scikit-image, two of them held out; with
--data DIR those of a folder, of which up to four are held out, unless --test DIR gives pairs to
test with: small pictures in DIR/data and large ones in DIR/labels. Into --out go the training
curve, a sheet with cubic interpolation, the network and the original side by side and details
enlarged, results.json and network.safetensors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from support import flags, pictures, plots, results
from support.training import train, warm_up_and_cosine

import fconv as fc
from fconv.vision.colour import rgb_to_ycbcr, ycbcr_to_rgb
from fconv.vision.images import cubically_resized

NETWORKS: dict[str, Callable[[int], fc.Layer]] = {
    "espcn": lambda scale: espcn(scale),
    "fsrcnn": lambda scale: fc.models.fsrcnn(scale, 1),
}


def espcn(scale: int) -> fc.Layer:
    """Two convolutions at the small size, one to a channel for each new pixel, and their shuffle.

    Names and shapes are those of fc.models.espcn. Its initial weights of deviation 0.001, with
    which the published ones began, take several times as long to learn as these, torch.nn's own.
    """
    return fc.compose(
        conv_1=fc.conv2d(64, 5, padding=2), tanh_1=fc.tanh(),
        conv_2=fc.conv2d(32, 3, padding=1), tanh_2=fc.tanh(),
        conv_3=fc.conv2d(scale * scale, 3, padding=1), pixel_shuffle=fc.pixel_shuffle(scale),
    )  # fmt: skip


class Pair(NamedTuple):
    """A small and a large picture of one scene: luma and two colour differences, from 0 to 1."""

    name: str
    small: Any
    large: Any


def pair(name: str, pixels: Any, scale: int) -> Pair:
    """Shrink a picture, of which a few rows and columns are left out so that it can be."""
    height, width = (n // scale * scale for n in pixels.shape[1:])
    large = rgb_to_ycbcr(pictures.from_0_to_1(pixels[:, :height, :width]))
    return Pair(name, cubically_resized(large, (height // scale, width // scale)), large)


def read_pairs(folder: str, scale: int) -> list[Pair]:
    """Read small pictures from a folder's data and the large ones of the same order from its labels."""
    small, large = (fc.data.read_images(Path(folder) / part) for part in ("data", "labels"))
    for part, images in (("data", small), ("labels", large)):
        if images.skipped:  # or the rest would be paired wrongly
            raise ValueError(f"{folder}/{part}: {'; '.join(map(': '.join, images.skipped.items()))}")
    if len(small.pictures) != len(large.pictures):
        raise ValueError(f"{folder} has {len(small.pictures)} small and {len(large.pictures)} large pictures")
    pairs = []
    for name, a, b in zip(large.names, small.pictures, large.pictures, strict=True):
        if b.shape[1:] != (a.shape[1] * scale, a.shape[2] * scale):
            raise ValueError(f"{folder}: {name} of {b.shape[1:]} is not {scale} times {a.shape[1:]}")
        if min(a.shape[1:]) < 8:
            raise ValueError(f"{folder}: {name}: the small picture of {a.shape[1:]} is smaller than 8x8")
        planes = (rgb_to_ycbcr(pictures.from_0_to_1(x)) for x in (a, b))
        pairs.append(Pair(name, *planes))
    return pairs


def crops(pairs: list[Pair], args: argparse.Namespace) -> Any:
    """Make the stream of batches: small crops and the large ones of the same places."""
    key = fc.random.fold_in(fc.random.key(args.seed), 1)
    small, large = ([getattr(p, size)[:1] for p in pairs] for size in ("small", "large"))

    def stream(start: int) -> Iterator[tuple[Any, Any]]:
        for step in range(start, args.steps):
            crop, flip = fc.random.split(fc.random.fold_in(key, step))
            batch = fc.data.random_crops(crop, small, large, count=args.batch_size, size=args.crop)
            x, target = fc.data.random_flips(flip, *batch, vertical=True)
            yield x, target

    return stream


def enlarged(net: fc.Layer, params: Any, small: Any, device: str) -> Any:
    """Enlarge a picture: the luma by the network, the colours by cubic interpolation."""
    luma = fc.to_device(net.apply(params, fc.to_device(small[None, :1], device)), "cpu")[0]
    return np.clip(np.concatenate([luma, cubically_resized(small[1:], luma.shape[1:])]), 0, 1)


def luma_psnr(picture: Any, original: Any, scale: int) -> float:
    """Return PSNR in dB of the luma, without a border of `scale` pixels, as papers do."""
    inner = (slice(0, 1), slice(scale, -scale), slice(scale, -scale))
    return float(fc.metrics.psnr(picture[inner][None], original[inner][None]))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = flags.parser(
        __doc__, "super_resolution", data="folder of pictures (default: photographs of scikit-image)",
        steps=3000, batch_size=16, lr=4e-3, samples="crops",
    )  # fmt: skip
    add = parser.add_argument
    add("--network", choices=NETWORKS, default="espcn", help="(default: espcn)")
    add("--scale", type=int, choices=(2, 3, 4), default=3, help="how many times larger (default: 3)")
    add("--crop", type=flags.at_least_one, default=24, metavar="N",
        help="height and width of a crop of the small pictures (default: 24)")  # fmt: skip
    add("--test", metavar="DIR", help="pairs to test with (default: pictures that are held out)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, show, save; give the mean PSNR of the luma of cubic interpolation and of the network."""
    args = arguments(argv)
    scale = args.scale
    with results.in_one_line("super_resolution"):
        results.prepare(args.out, args.device)
        photos = pictures.photographs(args.data, max(args.crop, 8) * scale, held_out=0 if args.test else 4)
        trained_on = photos.train + (photos.test if args.test else [])
        pairs = [pair("", pixels, scale) for pixels in trained_on]
        if args.test:
            test = read_pairs(args.test, scale)
        else:
            named = zip(photos.test_names, photos.test, strict=True)
            test = [pair(name, pictures.middle(pixels, 480, 480), scale) for name, pixels in named]
        cubic = [np.clip(cubically_resized(p.small, p.large.shape[1:]), 0, 1) for p in test]
        before = [luma_psnr(y, p.large, scale) for y, p in zip(cubic, test, strict=True)]
        print(
            f"{len(pairs)} pictures to train on, {len(test)} to test with, "
            f"of which cubic interpolation makes {np.mean(before):.2f} dB"
        )

        net = NETWORKS[args.network](scale)

        def measure(params: Any) -> dict[str, float]:
            made = (enlarged(net, params, p.small, args.device) for p in test)
            scores = [luma_psnr(y, p.large, scale) for y, p in zip(made, test, strict=True)]
            return {"PSNR": float(np.mean(scores))}

        run = train(
            net,
            fc.mse_loss(),
            fc.adam(lr=warm_up_and_cosine(args.lr, args.steps)),
            (args.batch_size, 1, args.crop, args.crop),
            crops(pairs, args),
            measure,
            args,
            network=f"{args.network} x{scale}",
            data=trained_on,
            steps=args.steps,
            measure_every=max(1, args.steps // 12),
        )

        about = {"network": args.network, "scale": str(scale)}
        fc.save(args.out / "network.safetensors", run.params, metadata=about)
        rows, table = [], {}
        for p, plain, base in zip(test, cubic, before, strict=True):
            made = enlarged(net, run.params, p.small, args.device)
            score = luma_psnr(made, p.large, scale)
            table[p.name] = {"cubic": base, "network": score}
            captions = (f"{p.name}, cubic: {base:.2f} dB", f"{args.network}: {score:.2f} dB", "original")
            rgb = [np.clip(ycbcr_to_rgb(planes), 0, 1) for planes in (plain, made, p.large)]
            rows.append(list(zip(captions, rgb, strict=True)))
        mean, gained = float(np.mean(before)), run.scores["PSNR"][-1]
        plots.sheet(
            args.out / "before_after.png", rows[:5],
            f"{scale} times larger, after {run.state.step} steps: "
            f"cubic {mean:.2f} dB, {args.network} {gained:.2f} dB on average",
            zoom=True,
        )  # fmt: skip
        plots.curves(args.out / "curves.png", run, "PSNR", "dB", "mse", {"cubic": mean})
        results.write_json(
            args.out / "results.json", "super_resolution", args,
            {"cubic_psnr": mean, "pictures": table, "skipped": photos.skipped, **run.summary()},
        )  # fmt: skip
        print(f"saved before_after.png, curves.png, results.json and network.safetensors in {args.out}")
        print(f"cubic {mean:.2f} dB, {args.network} {gained:.2f} dB")
    return {"cubic": mean, "network": gained}


if __name__ == "__main__":
    main()
