"""``pend-storage completion``."""

from __future__ import annotations

import sys

import click

from pend_storage.cli._exits import Exit
from pend_storage.cli._session import Session, pass_session
from pend_storage.errors import ConfigError

__all__ = ["completion"]

_PROGRAM = "pend-storage"
_VARIABLE = "_PEND_STORAGE_COMPLETE"


@click.command(short_help="Completion for a shell: a script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_session
def completion(session: Session, shell: str) -> Exit:
    r"""Print the script that completes commands and options in SHELL.

    \b
    bash: eval "$(pend-storage completion bash)"     in ~/.bashrc
    zsh:  eval "$(pend-storage completion zsh)"      in ~/.zshrc
    fish: pend-storage completion fish > ~/.config/fish/completions/pend-storage.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click has all three
        raise ConfigError(f"there is no completion for {shell}.")
    tree = click.get_current_context().find_root().command
    script = kind(tree, {}, _PROGRAM, _VARIABLE).source()
    if not session.output.as_json:
        sys.stdout.write(script)
    return session.finish(Exit.DONE, {"shell": shell, "script": script})
