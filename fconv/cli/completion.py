"""fconv completion."""

from __future__ import annotations

import sys

import click

_PLACES = {
    "bash": ("~/.local/share/bash-completion/completions/fconv", "~/.bashrc"),
    "zsh": ("a folder of $fpath, as _fconv", "~/.zshrc"),
    "fish": ("~/.config/fish/completions/fconv.fish", "~/.config/fish/config.fish"),
}


@click.command()
@click.argument("shell", type=click.Choice(list(_PLACES)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes fconv's commands and options in SHELL.

    Where it goes is said on a terminal, and in the script's first line.

    \b
    Examples:
      fconv completion bash > ~/.local/share/bash-completion/completions/fconv
      fconv completion fish > ~/.config/fish/completions/fconv.fish
      eval "$(fconv completion zsh)"      # in ~/.zshrc
    """
    from click.shell_completion import BashComplete, get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise ValueError(f"completion: click has none for {shell}")
    if found is BashComplete:
        # click's own `source` first asks the bash of this machine for its version, which may be another
        # than the script is for, or none.
        found = type("_Bash", (BashComplete,), {"_check_version": staticmethod(lambda: None)})
    script = found(context.find_root().command, {}, "fconv", "_FCONV_COMPLETE").source()
    file, start = _PLACES[shell]
    click.echo(f"#compdef fconv\n{script}" if shell == "zsh" and "#compdef" not in script else script)
    if sys.stdout.isatty():
        click.echo(f"Write it to {file}, or call it from {start}; see fconv completion --help.", err=True)
