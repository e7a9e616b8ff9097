"""``edge-agent completion``"""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
      bash:  edge-agent completion bash > ~/.local/share/bash-completion/completions/edge-agent
      zsh:   edge-agent completion zsh > "${fpath[1]}/_edge-agent"
      fish:  edge-agent completion fish > ~/.config/fish/completions/edge-agent.fish
    """
    from click.shell_completion import get_completion_class

    root = ctx.find_root().command
    kind = get_completion_class(shell)
    if kind is None:  # pragma: no cover - click knows all three
        raise click.UsageError(f"no completion for {shell}")
    # `source()` of bash runs bash to look at its version; the script itself needs none.
    script = kind(root, {}, "edge-agent", "_EDGE_AGENT_COMPLETE")
    click.echo(script.source_template % script.source_vars())
