"""Small faults: what is exchanged, dropped or turned in a file."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

UNSEEN = ("strict", "cost", "optimize")  # options that only guard, or say how long something may take
COMPARED = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"),
}  # fmt: skip
COMPUTED = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"), ast.Mod: ("%", "//"), ast.Pow: ("**", "*"), ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.MatMult: ("@", "*"),
}  # fmt: skip
CALLED = {
    "min": "max", "max": "min", "all": "any", "any": "all", "least": "most", "most": "least",
    "minimum": "maximum", "maximum": "minimum", "floor": "ceil", "ceil": "floor", "zeros": "ones",
    "zeros_like": "ones_like", "sum": "max", "argmax": "argmin", "sqrt": "abs", "exp": "abs",
}  # fmt: skip
INSTRUCTIONS = {
    "slt": "sle", "sgt": "sge", "eq": "ne", "olt": "ole", "ogt": "oge", "fadd": "fsub", "fsub": "fadd",
    "fmul": "fadd", "fdiv": "fmul", "add": "sub", "sub": "add", "mul": "add", "sdiv": "mul", "srem": "sdiv",
    "shl": "lshr", "ashr": "shl",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One fault: what stands from byte `start` to `stop` of a file is replaced."""

    path: str
    start: int
    stop: int
    text: str
    scope: str  # the function, or the constant of the module, that it is in

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.stop :]

    def diff(self, source: bytes) -> str:
        before, after = (s.decode().splitlines(keepends=True) for s in (source, self.apply(source)))
        return "".join(difflib.unified_diff(before, after, self.path, self.path, n=1))

    def lines(self, source: bytes) -> tuple[str, str]:
        """Return the line that is changed, before and after."""
        return tuple(
            s[s.rfind(b"\n", 0, self.start) + 1 :].split(b"\n", 1)[0].decode().strip()
            for s in (source, self.apply(source))
        )  # type: ignore[return-value]

    def identity(self, source: bytes) -> tuple[str, ...]:
        """Return what names a mutant whatever else of its file changes."""
        return (self.path, self.scope, *self.lines(source))


class _Finder(ast.NodeVisitor):
    """Find the places of a module where it can be mutated; texts of errors and annotations are left alone."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source, self.found, self._scope = path, source, list[Mutant](), ""
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self.visit(ast.parse(source))

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return (
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[node.end_lineno - 1] + node.end_col_offset,
        )  # type: ignore[attr-defined]

    def _replace(self, node: ast.AST, text: str) -> None:
        self._add(*self._span(node), text)

    def _add(self, start: int, stop: int, text: str) -> None:
        self.found.append(Mutant(self.path, start, stop, text, self._scope))

    def _text(self, node: ast.AST) -> str:
        start, stop = self._span(node)
        return self.source[start:stop].decode()

    def _between(self, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Exchange an operator that stands between two expressions."""
        start, stop = self._span(left)[1], self._span(right)[0]
        at = self.source.find(old.encode(), start, stop)
        if at >= 0:
            self._add(at, at + len(old), new)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._within(node, [*node.args.defaults, *node.args.kw_defaults])

    def _within(self, node: ast.FunctionDef | ast.ClassDef, defaults: Sequence[ast.expr | None] = ()) -> None:
        outer = self._scope
        self._scope = f"{outer}.{node.name}" if outer else node.name
        for default in defaults:
            if default is not None:
                self.visit(default)
        self._body(node.body)
        self._scope = outer

    def _body(self, body: list[ast.stmt]) -> None:
        for statement in body:
            documents = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if not documents:
                self.visit(statement)

    def visit_Module(self, node: ast.Module) -> None:
        self._body(node.body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._within(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
        outer, self._scope = self._scope, self._scope or " ".join(names)
        if "__all__" not in names:
            self.generic_visit(node)
        self._scope = outer

    def visit_If(self, node: ast.If) -> None:
        if self._text(node.test) != "TYPE_CHECKING":
            outer = self._scope
            self._scope += " (guard)" if isinstance(node.body[-1], ast.Raise) else ""
            self._turn(node.test)
            self.visit(node.test)
            self._scope = outer
            if not isinstance(node.body[-1], ast.Raise):  # what comes before it is a part of the text
                self._visit_all(node.body)
            self._visit_all(node.orelse)

    def _visit_all(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._turn(node.test)
        self.generic_visit(node)

    def _turn(self, test: ast.expr) -> None:
        """Turn a condition; a comparison or a negation is turned where it is visited."""
        if not isinstance(test, (ast.Compare, ast.UnaryOp)):
            self._replace(test, f"(not ({self._text(test)}))")

    def visit_Expr(self, node: ast.Expr) -> None:
        outer = self._scope
        if isinstance(node.value, ast.Call):
            checks = self._text(node.value.func).split(".")[-1].startswith("check_")
            self._scope += " (guard)" if checks else ""
            self._replace(node, "pass")
        self.generic_visit(node)
        self._scope = outer

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "pass")
        if type(node.op) in COMPUTED:
            self._between(node.target, node.value, *COMPUTED[type(node.op)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        words = any(
            isinstance(side, ast.JoinedStr)
            or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in (node.left, node.right)
        )
        if type(node.op) in COMPUTED and not words:
            self._between(node.left, node.right, *COMPUTED[type(node.op)])
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, op, right in zip((node.left, *node.comparators), node.ops, node.comparators, strict=False):
            self._between(left, right, *COMPARED[type(op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        self._between(node.values[0], node.values[1], old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.USub, ast.Not)) and not isinstance(node.operand, ast.Constant):
            self._replace(node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in CALLED:
            stop = self._span(node.func)[1]
            self._add(stop - len(name), stop, CALLED[name])
        self.visit(node.func)
        for given in (*node.args, *node.keywords):
            # NumPy takes any negative number for the size that is left over.
            if not (name == "reshape" and isinstance(given, ast.UnaryOp)):
                self.visit(given)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in UNSEEN:
            self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Exchange the instruction that begins a line of LLVM's language."""
        first = node.values[0] if node.values else None
        if isinstance(first, ast.Constant) and (word := str(first.value).split(" ", 1)[0]) in INSTRUCTIONS:
            at = self.source.find(word.encode(), *self._span(node))
            self._add(at, at + len(word), INSTRUCTIONS[word])

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace(node, str(not node.value))
        elif isinstance(node.value, int):
            self._replace(node, str(node.value + 1))
        elif isinstance(node.value, float):
            self._replace(node, repr(node.value * 2 if node.value else 1.0))
        elif node.value in INSTRUCTIONS:
            self._replace(node, repr(INSTRUCTIONS[node.value]))


def mutants_of(root: Path, path: str) -> list[Mutant]:
    """List the mutants of a file."""
    return list(dict.fromkeys(_Finder(path, (root / path).read_bytes()).found))


def is_python(source: bytes) -> bool:
    """Return whether a mutant is Python."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True
