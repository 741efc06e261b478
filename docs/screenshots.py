"""Take pictures of the built site in light and dark, 400 and 1,400 pixels wide, and check pages and links.

    python docs/screenshots.py docs/_build/html out/screenshots [PAGE ...]

It needs Debian's package chromium-headless-shell or chromium, and tornado, which the extra docs brings.
Without pages, every page is taken but those of single names and of sources, of which every twentieth is.
Reported are pages wider than the window, elements cut off, pictures and formulas that are missing, errors of
scripts, and broken links.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urlsplit

from tornado.websocket import websocket_connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TALLEST = 16000  # pixels that Chromium takes at once
FAULTS = r"""(async () => {
  await window.MathJax?.startup?.promise;
  const found = [], width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) found.push("wider than the window");
  for (const image of document.images) {
    image.loading = "eager";
    try { await image.decode(); } catch { found.push("no picture " + image.src); }
  }
  for (const one of document.querySelectorAll("mjx-merror, .MathJax_Error, .math .merror"))
    found.push("formula " + one.textContent);
  for (const one of document.querySelectorAll("article .math"))
    if (/\\\(|\\\[/.test(one.innerText)) found.push("formula not set: " + one.innerText.slice(0, 60));
  for (const one of document.querySelectorAll("article *")) {
    const box = one.getBoundingClientRect();
    if (!one.checkVisibility() || box.width < 2 || box.right <= width + 1) continue;
    if (one.closest("mjx-container, svg")) continue;
    let up = one;
    while (up && !["auto", "scroll"].includes(getComputedStyle(up).overflowX)) up = up.parentElement;
    if (!up) found.push("cut off: " + one.tagName + " " + one.textContent.trim().slice(0, 60));
  }
  return found;
})()"""


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
    """List links of the site that lead to no file or no part of a page, and addresses of the wrong form."""
    site = site.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    wrong = []
    for path, page in pages.items():
        name = path.relative_to(site)
        for link in page.links:
            target, part = urldefrag(link)
            if target.startswith(("data:", "mailto:")):
                continue
            if ":" in target or target.startswith("//"):
                if not re.fullmatch(r"https://[\w-]+(\.[\w-]+)+", "://".join(urlsplit(target)[:2])):
                    wrong.append(f"{name}: expected an address that begins with https, got {link}")
                continue
            to = (path.parent / unquote(target.split("?")[0])).resolve() if target else path
            to = to / "index.html" if to.is_dir() else to
            if not to.exists():
                wrong.append(f"{name}: no file {link}")
            elif part and to in pages and unquote(part) not in pages[to].names | {"top", ""}:
                wrong.append(f"{name}: no part {link}")
    return wrong


class Browser:
    """A page of a headless Chromium, driven by the DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.last = 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and return its result; events that come in the meantime are kept."""
        self.last += 1
        await self.socket.write_message(json.dumps({"id": self.last, "method": method, "params": params}))
        while (message := await self.message()).get("id") != self.last:
            self.events.append(message)
        if "error" in message:
            raise SystemExit(f"screenshots: {method}: {message['error']['message']}")
        return dict(message["result"])

    async def message(self) -> dict[str, Any]:
        """Return the next message of the browser."""
        return dict(json.loads(await self.socket.read_message()))

    async def show(self, address: str, width: int, dark: bool) -> list[str]:
        """Load a page, and return what is wrong with it."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        self.events.clear()
        await self.call("Page.navigate", url=address)
        while all(event["method"] != "Page.loadEventFired" for event in self.events):
            self.events.append(await self.message())
        expression = {"expression": FAULTS, "awaitPromise": True, "returnByValue": True}
        found = (await self.call("Runtime.evaluate", **expression))["result"]["value"]
        for event in self.events:
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                found.append("script: " + details.get("exception", details).get("description", "failed"))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return list(dict.fromkeys(found))

    async def picture(self, to: Path) -> None:
        """Write a picture of the whole page."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "scale": 1, "width": size["width"], "height": min(size["height"], TALLEST)}
        shot = await self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        to.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start Chromium, and end it."""
    path = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium"))), None)
    if path is None:
        raise SystemExit("screenshots: expected chromium-headless-shell or chromium on the PATH")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
        ]
        process = subprocess.Popen(
            [path, *options, f"--user-data-dir={folder}", "about:blank"], stderr=subprocess.DEVNULL
        )
        try:
            port = Path(folder) / "DevToolsActivePort"  # two lines: the port and the browser's path
            while not port.exists() or port.read_text().count("\n") < 1:
                await asyncio.sleep(0.1)
            number, root = port.read_text().splitlines()
            address = f"ws://127.0.0.1:{number}"
            made = await (await connected(address + root)).call("Target.createTarget", url="about:blank")
            page = await connected(f"{address}/devtools/page/{made['targetId']}")
            for domain in ("Page", "Runtime", "Log"):
                await page.call(f"{domain}.enable")
            yield page
        finally:
            process.kill()
            process.wait()


async def connected(address: str) -> Browser:
    """Connect to a target of the browser."""
    return Browser(await websocket_connect(address, max_message_size=2**30))


def chosen(site: Path) -> list[str]:
    """Name the pages to take: every twentieth of those of single names and of sources, and all others."""
    names = [str(path.relative_to(site).with_suffix("")) for path in sorted(site.rglob("*.html"))]
    many = [name for name in names if name.startswith(("reference/api/names/", "_modules/"))]
    return [name for name in names if name not in many] + many[::20]


async def take(site: Path, out: Path, pages: list[str]) -> list[str]:
    """Take the pictures, and return what is wrong with the pages."""
    wrong = []
    async with browser() as page:
        for name in pages or chosen(site):
            for width in (400, 1400):
                for dark in (False, True):
                    found = await page.show((site / f"{name}.html").resolve().as_uri(), width, dark)
                    wrong += [f"{name}, {width} pixels: {one}" for one in found]
                    shade = "dark" if dark else "light"
                    await page.picture(out / f"{name.replace('/', '-')}-{width}-{shade}.png")
    return list(dict.fromkeys(wrong))


def main() -> None:
    """Take the pictures, and fail where a page or a link is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "pages", nargs="*", help="such as tutorials/gan; all but most of the reference if not given"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    wrong = broken_links(args.site) + asyncio.run(take(args.site, args.out, args.pages))
    print("\n".join(wrong))
    sys.exit(f"{len(wrong)} faults" if wrong else 0)


if __name__ == "__main__":
    main()
