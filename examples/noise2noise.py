"""Learn to take noise from photographs without ever seeing a clean one.

A network is shown a noisy crop and has to predict another noisy version of the same crop. It
cannot guess the noise, so that the best it can do is the mean of all versions, which is the clean
picture (Lehtinen et al., "Noise2Noise: learning image restoration without clean data", 2018).
With --clean-targets it is shown the clean crop, to see how little is gained by that.

By default the pictures are photographs that come with scikit-image, two of them held out; with
--data DIR those of a folder, of which up to four are held out. Into --out go the training curve,
a sheet of the held-out pictures before and after, results.json and network.safetensors.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from support import flags, pictures, plots, results
from support.training import train, warm_up_and_cosine

import fconv as fc

NETWORKS: dict[str, Callable[[], fc.Layer]] = {
    "unet": lambda: unet(),
    "report1": fc.models.noise2noise,
    "report2": fc.models.noise2noise_strided,
    "shallow": fc.models.noise2noise_shallow,
}

# Each kind of noise with its strength, and the loss whose best guess is the clean picture: the mean
# of noisy versions for the first two; their median where some pixels are replaced.
NOISES: dict[str, tuple[Callable[..., Any], float, str, str]] = {
    "gaussian": (fc.data.gaussian_noise, 25 / 255, "mse", "standard deviation"),
    "poisson": (fc.data.poisson_noise, 30.0, "mse", "photons of a white pixel"),
    "impulse": (fc.data.impulse_noise, 0.2, "l1", "share of the pixels replaced"),
    "text": (fc.data.text_noise, 0.2, "l1", "share of the pixels written over"),
}


def unet(width: int = 24) -> fc.Layer:
    """Predict what to add to the picture, from three sizes of it; a smaller U-Net than fc.models.unet."""

    def two(channels: int) -> fc.Layer:
        return fc.compose(
            fc.conv2d(channels, 3, padding=1), fc.relu(), fc.conv2d(channels, 3, padding=1), fc.relu()
        )

    return fc.graph(
        {
            "full": (two(width), "x"),
            "half": (fc.compose(fc.max_pool2d(2), two(2 * width)), "full"),
            "quarter": (fc.compose(fc.max_pool2d(2), two(4 * width)), "half"),
            "up_half": (fc.conv_transpose2d(2 * width, 2, stride=2), "quarter"),
            "join_half": (fc.concat(), "up_half", "half"),
            "back_half": (two(2 * width), "join_half"),
            "up_full": (fc.conv_transpose2d(width, 2, stride=2), "back_half"),
            "join_full": (fc.concat(), "up_full", "full"),
            "back_full": (two(width), "join_full"),
            "change": (fc.conv2d(3, 3, padding=1), "back_full"),
            "picture": (fc.add(), "change", "x"),
        }
    )


def noisy_pairs(photos: list[Any], noise: Callable[..., Any], args: argparse.Namespace) -> Any:
    """Make the stream of batches: the crops and their noise are a function of the step's number."""
    key = fc.random.fold_in(fc.random.key(args.seed), 1)

    def stream(start: int) -> Iterator[tuple[Any, Any]]:
        for step in range(start, args.steps):
            crop, flip, first, second = fc.random.split(fc.random.fold_in(key, step), 4)
            (clean,) = fc.data.random_crops(crop, photos, count=args.batch_size, size=args.crop)
            (clean,) = fc.data.random_flips(flip, clean, vertical=True)
            target = clean if args.clean_targets else noise(second, clean, args.level)
            yield noise(first, clean, args.level), target

    return stream


def held_out(photos: list[Any], noise: Callable[..., Any], level: float) -> list[tuple[Any, Any]]:
    """Return clean pictures of at most 320 pixels and noisy versions, the same in every run."""
    clean = [pictures.from_0_to_1(pictures.middle(photo, 320, 320)) for photo in photos]
    clean = [x[:, : x.shape[1] // 4 * 4, : x.shape[2] // 4 * 4] for x in clean]
    key = fc.random.key(2018)
    return [(x, noise(fc.random.fold_in(key, i), x, level)) for i, x in enumerate(clean)]


def denoised(net: fc.Layer, params: Any, noisy: Any, device: str) -> Any:
    """Apply the network to one picture."""
    y = net.apply(params, fc.to_device(noisy[None], device))
    return np.clip(fc.to_device(y, "cpu")[0], 0, 1)


def quality(picture: Any, clean: Any) -> tuple[float, float]:
    """Return PSNR in dB and SSIM."""
    batch = (picture[None], clean[None])
    return float(fc.metrics.psnr(*batch)), float(fc.metrics.ssim(*batch))


def mean_psnr(pairs: list[tuple[Any, Any]]) -> float:
    """Return the mean over pairs of a picture and its clean version."""
    return float(np.mean([quality(*pair)[0] for pair in pairs]))


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = flags.parser(
        __doc__, "noise2noise", data="folder of pictures (default: photographs of scikit-image)",
        steps=400, batch_size=8, lr=2e-3, samples="crops",
    )  # fmt: skip
    add = parser.add_argument
    add("--network", choices=NETWORKS, default="unet", help="(default: unet)")
    add("--noise", choices=NOISES, default="gaussian", help="(default: gaussian)")
    levels = ", ".join(f"{name}: {what}, {level:.3g}" for name, (_, level, _, what) in NOISES.items())
    add("--level", type=flags.at_least_zero, metavar="NUMBER", help=f"how strong (defaults: {levels})")
    add("--crop", type=flags.at_least_one, default=64, metavar="N", help="height and width (default: 64)")
    add("--clean-targets", action="store_true", help="learn from clean targets, to compare")
    args = parser.parse_args(argv)
    if args.crop % 4:
        parser.error(f"argument --crop: expected a multiple of 4, got {args.crop}")
    args.level = NOISES[args.noise][1] if args.level is None else args.level
    return args


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, show, save; give the mean PSNR of noisy and denoised pictures."""
    args = arguments(argv)
    noise, _, loss, _ = NOISES[args.noise]
    with results.in_one_line("noise2noise"):
        results.prepare(args.out, args.device)
        photos = pictures.photographs(args.data, max(args.crop, 16))
        test = held_out(photos.test, noise, args.level)
        before = mean_psnr([(np.clip(noisy, 0, 1), clean) for clean, noisy in test])
        print(f"{len(photos.train)} pictures to train on, {len(test)} held out, which have {before:.2f} dB")

        net = NETWORKS[args.network]()
        run = train(
            net,
            fc.mse_loss() if loss == "mse" else fc.l1_loss(),
            fc.adam(lr=warm_up_and_cosine(args.lr, args.steps)),
            (args.batch_size, 3, args.crop, args.crop),
            noisy_pairs(photos.train, noise, args),
            lambda params: {"PSNR": mean_psnr([(denoised(net, params, y, args.device), x) for x, y in test])},
            args,
            network=args.network,
            data=photos.train,
            steps=args.steps,
            measure_every=max(1, args.steps // 12),
        )

        fc.save(args.out / "network.safetensors", run.params, metadata={"network": args.network})
        rows, table = [], {}
        for name, (clean, noisy) in zip(photos.test_names, test, strict=True):
            after = denoised(net, run.params, noisy, args.device)
            scores = {"noisy": quality(np.clip(noisy, 0, 1), clean), "denoised": quality(after, clean)}
            table[name] = {what: {"PSNR": psnr, "SSIM": ssim} for what, (psnr, ssim) in scores.items()}
            captions = [
                f"{name}, {what}: {psnr:.2f} dB, SSIM {ssim:.3f}" for what, (psnr, ssim) in scores.items()
            ]
            rows.append([*zip(captions, (noisy, after), strict=True), ("clean", clean)])
        gained = run.scores["PSNR"][-1]
        targets = "clean" if args.clean_targets else "noisy"
        title = f"{args.network} after {run.state.step} steps on {targets} targets"
        plots.sheet(
            args.out / "before_after.png", rows, f"{title}: {before:.2f} dB to {gained:.2f} dB on average"
        )
        plots.curves(args.out / "curves.png", run, "PSNR", "dB", loss, {"noisy": before})
        results.write_json(
            args.out / "results.json", "noise2noise", args,
            {"noisy_psnr": before, "pictures": table, "skipped": photos.skipped, **run.summary()},
        )  # fmt: skip
        print(f"saved before_after.png, curves.png, results.json and network.safetensors in {args.out}")
        print(f"noisy {before:.2f} dB, denoised {gained:.2f} dB")
    return {"noisy": before, "denoised": gained}


if __name__ == "__main__":
    main()
