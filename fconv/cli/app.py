"""The group of commands, and how each of them ends."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from fconv.cli.completion import completion
from fconv.cli.convert import convert
from fconv.cli.diff import diff
from fconv.cli.doctor import doctor
from fconv.cli.inspect import inspect
from fconv.cli.launch import launch
from fconv.cli.predict import predict
from fconv.cli.printing import echo
from fconv.cli.restore import denoise, upscale
from fconv.cli.summary import models, summary
from fconv.showing import printable
from fconv.version import __version__

_LONGEST_ERROR = 1000
_FUNCTION = re.compile(
    r"(?:(?<=^)|(?<=: ))(?:load|load_metadata|save|rename|select|cast"
    r"|(?:from|to)_(?:onnx|torch|state_dict|device)"
    r"|find_state_dict|summary|guess_model|class_names|prepare|apply_tiled|denoised|upscaled"
    r"|read_(?:image|weights)|write_image): "
)
"""A function of the library at the beginning of a message, which means nothing to who types a command."""
_INTERRUPTED, _PIPE_CLOSED, _TERMINATED = 130, 141, 143  # 128 and the number of the signal, as shells count


class _Trouble(click.ClickException):
    """An error in one line."""

    def show(self, file: Any = None) -> None:
        click.echo(printable(f"fconv: {self.format_message()}"), file=file, err=file is None)


class _NoComparison(_Trouble):
    """Trouble where status 1 means something else: that files differ."""

    exit_code = 2


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: what it has half written is removed."""


def _terminate(number: int, frame: Any) -> None:
    raise _TerminatedError


@contextmanager
def _terminable() -> Iterator[None]:
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Group(click.Group):
    """A group whose commands end without a traceback, whatever they meet."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _terminable():
                result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe shows here, not after the interpreter's end
            return result
        except BrokenPipeError:
            # The reader has what it wanted. What is still to be written goes nowhere.
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
            ctx.exit(_PIPE_CLOSED)
        except click.ClickException as error:  # it may speak of a file's name
            error.message = printable(error.message)  # type: ignore[misc]
            raise
        except KeyboardInterrupt as stop:
            terminated = isinstance(stop, _TerminatedError)
            click.echo(f"fconv: {'terminated' if terminated else 'interrupted'}", err=True)
            ctx.exit(_TERMINATED if terminated else _INTERRUPTED)
        except (ValueError, TypeError, OSError, ImportError, MemoryError, ArithmeticError) as error:
            if ctx.params.get("traceback"):
                echo(*traceback.format_exc().rstrip().split("\n"), err=True)
                ctx.exit(1)
            kind = _NoComparison if ctx.invoked_subcommand == "diff" else _Trouble
            raise kind(one_line(error)) from error


def one_line(error: BaseException) -> str:
    """Write an error in one line of bounded length."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{os.fspath(error.filename)}: {error.strerror.lower()}"
    text = _FUNCTION.sub("", re.sub(r"(?<=:)\s*\n\s*", " ", text))
    text = re.sub(r"\s*\n\s*", "; ", text)
    if len(text) > _LONGEST_ERROR:
        text = text[:_LONGEST_ERROR] + " ... (cut here; all of it: fconv --traceback ...)"
    return text


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fconv", message="%(prog)s %(version)s")
@click.option("--traceback", is_flag=True, help="Show where in the program an error was met.")
def main(traceback: bool) -> None:
    """Look into files of weights, convert and compare them, run networks on pictures.

    PyTorch is not needed for any of it. Files are .safetensors, .npz, PyTorch's .pt, .pth, .th and
    .tar, and .onnx. Nothing in a file is ever executed.

    \b
    Examples:
      fconv inspect resnet18.pth
      fconv convert resnet18.pth resnet18.safetensors --strip-prefix module.
      fconv upscale small.png large.png --weights ESPCN-x3.pt --factor 3
      fconv doctor

    fconv COMMAND --help tells more of each. A command ends with status 0 where all went well, 1 where
    it met trouble and 2 where it was called wrongly (diff: 1 where files differ, 2 for any trouble).
    """


_COMMANDS = (inspect, convert, diff, summary, models, predict, denoise, upscale, launch, doctor, completion)
for command in _COMMANDS:
    main.add_command(command)
