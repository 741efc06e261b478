"""The page of the documentation that shows the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import plots, report

BEGIN, END = "<!-- results: written by python -m benchmarks --docs -->", "<!-- end of results -->"


def fill(page: Path, results: dict[str, dict[str, Any]]) -> None:
    """Put tables and plots between the marks of a page, and the plots in a folder of its name beside it.

    Raises
    ------
    ValueError
        The page has no marks, or the results are of small inputs.
    """
    if quick := [part for part, content in results.items() if content["header"]["quick"]]:
        raise ValueError(
            f"benchmarks: {', '.join(quick)} were run with --quick, and are no figures to publish"
        )
    filled(page.read_text(encoding="utf-8"), "")  # before anything is drawn
    files = plots.draw(results, page.with_suffix(""))
    links = {part: file.relative_to(page.parent).as_posix() for part, file in files.items()}
    text = filled(page.read_text(encoding="utf-8"), report.markdown(results, links))
    page.write_text(text, encoding="utf-8")


def filled(text: str, content: str) -> str:
    """Replace what stands between the marks.

    Examples
    --------
    >>> filled(f"a {BEGIN} old {END} b", "new").splitlines()[0].startswith("a <!--")
    True
    """
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"benchmarks: expected the page to hold the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{content}\n{END}{after}"
