"""`fetafix completion`: what a shell needs to complete commands, options, fault types and files."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_HOW = {
    "bash": 'eval "$(fetafix completion bash)"              # in ~/.bashrc; bash 4.4 or newer',
    "zsh": 'eval "$(fetafix completion zsh)"               # in ~/.zshrc, behind compinit',
    "fish": "fetafix completion fish > ~/.config/fish/completions/fetafix.fish",
}
NAME, VARIABLE = "fetafix", "_FETAFIX_COMPLETE"


@click.command(epilog="\b\n" + "\n".join(_HOW.values()))
@click.argument("shell", type=click.Choice(list(_HOW)))
def completion(shell: str) -> None:
    """Print what lets SHELL complete commands, options, choices, fault types and files."""
    made = get_completion_class(shell)
    root = click.get_current_context().find_root().command
    assert made is not None  # click has all three
    click.echo(made(root, {}, NAME, VARIABLE).source())
