"""Take pictures of the built site in light and dark, 400 and 1,400 pixels wide, and check its links.

    python docs/screenshots.py docs/_build/html out/screenshots [PAGE ...]

It needs Debian's package chromium-headless-shell, or chromium (which shows no less than 500 pixels). Without
pages, one of each kind is taken. The links between the pages and to their parts are checked in any case.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

KINDS = [
    *("index", "quickstart", "tutorials/denoising", "howto/nan", "coming_from/pytorch"),
    *("explanation/engine", "explanation/derivations", "reference/index", "reference/api/layers"),
    *("reference/api/names/fconv.functional.conv2d", "functions/convolution", "gallery", "examples"),
    *("benchmarks", "design/convolution", "contributing"),
]


class Page(HTMLParser):
    """The links of a page, and the names that links can lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element links to, and its name."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.names.add(value)
            elif (tag, name) in (("a", "href"), ("img", "src"), ("link", "href"), ("script", "src")):
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """List links of the site that lead to no file, or to no part of a page."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            target, part = urldefrag(link)
            if ":" in target or target.startswith("//"):
                continue
            to = (path.parent / unquote(target.split("?")[0])).resolve() if target else path
            to = to / "index.html" if to.is_dir() else to
            if not to.exists():
                wrong.append(f"{path.relative_to(site.resolve())}: {link}")
            elif part and to in pages and unquote(part) not in pages[to].names | {"top", ""}:
                wrong.append(f"{path.relative_to(site.resolve())}: no part {link}")
    return wrong


def screenshot(page: Path, to: Path, width: int, dark: bool) -> None:
    """Take a picture of the first 2,400 pixels of a page."""
    browser = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
    if browser is None:
        raise SystemExit("screenshots: expected chromium-headless-shell or chromium on the PATH")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--window-size={width},2400",
    ]  # fmt: skip
    subprocess.run(
        [browser, *options, f"--screenshot={to}", page.resolve().as_uri()],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip


def main() -> None:
    """Take the pictures, and fail where a link is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("pages", nargs="*", help="such as tutorials/gan; one of each kind if not given")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for page in args.pages or KINDS:
        for width in (400, 1400):
            for dark in (False, True):
                name = f"{page.replace('/', '-')}-{width}-{'dark' if dark else 'light'}.png"
                screenshot(args.site / f"{page}.html", args.out / name, width, dark)
    wrong = broken_links(args.site)
    print("\n".join(wrong))
    sys.exit(f"{len(wrong)} broken links" if wrong else 0)


if __name__ == "__main__":
    main()
