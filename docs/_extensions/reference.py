"""Write the reference: tables of the public names by subject, and a page for each name.

A function of `fconv.functional` shares its page with its derivatives. Inline code that is the name of a
documented object becomes a link.
"""

from __future__ import annotations

import inspect
import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from names import PAGES, gradients, tables
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform


def write(folder: Path) -> None:
    """Write the pages of tables, and a page for each name.

    The pages of names stand in no table of contents: with hundreds of entries in the sidebar of hundreds of
    pages, Sphinx would take minutes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "names").mkdir(parents=True)
    functions = set(import_module("fconv.functional").__all__)
    for page, found in tables().items():
        lines = heading(PAGES[page], "=")
        for title, names in found:
            lines += heading(title, "-") if title else []
            lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names), ""]
            for name in names:
                (folder / "names" / f"{name}.rst").write_text(stub(name, page, functions), encoding="utf-8")
        if found:
            (folder / f"{page}.rst").write_text("\n".join(lines), encoding="utf-8")


def heading(title: str, line: str) -> list[str]:
    """Return the lines of a heading."""
    return [title, line * len(title), ""]


def stub(name: str, page: str, functions: set[str]) -> str:
    """Return the page of a name; a function's derivatives stand below it."""
    module, _, last = name.rpartition(".")
    value = getattr(import_module(module), last)
    kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
    title = name.replace(".", ".\u200b").replace("_", "\\_\u200b")  # where a narrow page may break it
    lines = [":orphan:", "", *heading(title, "="), f":doc:`{PAGES[page]} <../{page}>`", ""]
    names = [last, *(gradients(last, functions) if module == "fconv.functional" else [])]
    fields = getattr(value, "_fields", ())  # of a named tuple: "Alias for field number 0" says nothing
    options = ["   :members:", *([f"   :exclude-members: {', '.join(fields)}"] if fields else [])]
    for part in names:
        lines += [f".. auto{kind}:: {module}.{part}", *(options if kind == "class" else []), ""]
    return "\n".join(lines)


class LinkNames(SphinxTransform):
    """Turn inline code such as `fc.conv2d(...)` or `F.conv2d_vjp` into a link to the reference.

    In the tables of functions the bare names are links too.
    """

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Wrap each such literal in a reference; what is not documented stays a literal."""
        page = self.env.docname
        bare = {"functions/optimizers": "fconv.", "functions/schedules": "fconv.schedules."}.get(page)
        bare = bare or ("fconv.functional." if page.startswith("functions/") else "")
        for literal in list(self.document.findall(nodes.literal)):
            match = re.match(r"(?:(fc|fconv|F)\.)?([A-Za-z_][\w.]*)(\(.*\))?$", literal.astext(), re.S)
            if (
                not match
                or not (match[1] or bare)
                or isinstance(literal.parent, (nodes.reference, pending_xref))
            ):
                continue
            prefix = {None: bare, "F": "fconv.functional."}.get(match[1], "fconv.")
            link = pending_xref("", refdomain="py", reftype="obj", reftarget=prefix + match[2], refwarn=False)
            link["refexplicit"], link["refdoc"] = True, page
            literal.replace_self(link)
            link += literal


def prepare(app: Any, config: Any) -> None:
    """Write the pages before Sphinx looks for them."""
    write(Path(app.srcdir) / "reference" / "api")


def share_navigation(app: Any, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Render the sidebar once for all pages of a folder that stand in no table of contents.

    It is the same in all of them, and rendering it for each of hundreds of pages would take a third of
    the build.
    """
    folder = pagename.rpartition("/")[0]
    if not pagename.startswith(("reference/api/names/", "_modules/")) or "toctree" not in context:
        return
    shared, render = app.fconv_navigation, context["toctree"]

    def toctree(**options: Any) -> str:
        key = (folder, *sorted(options.items()))
        if key not in shared:
            shared[key] = render(**options)
        return shared[key]

    context["toctree"] = toctree


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("config-inited", prepare)
    app.connect("html-page-context", share_navigation, priority=100)
    app.fconv_navigation = {}
    app.add_transform(LinkNames)
    # It copies files and no more, but does not say so; without, pages would be read one after another.
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True
    return {"parallel_read_safe": True, "parallel_write_safe": True}
