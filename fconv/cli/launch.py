"""fconv launch."""

from __future__ import annotations

import click


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-n", "--ranks", type=click.IntRange(min=1), required=True, metavar="N", help="Ranks to start.")
@click.option(
    "--least", type=click.IntRange(min=1), default=1, metavar="N",
    help="Where not all ranks come up, half as many are started, but no fewer than this.  [default: 1]",
)  # fmt: skip
@click.option(
    "--restarts", type=click.IntRange(min=0), default=100, metavar="N",
    help="How often to start the job again after a rank was lost.  [default: 100]",
)  # fmt: skip
@click.option(
    "--mpiexec", metavar="COMMAND",
    help="What starts the ranks, such as 'mpiexec -hosts a,b'.  [default: the mpiexec beside Python]",
)  # fmt: skip
@click.argument("script", type=click.Path(exists=True, dir_okay=False))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def launch(
    ctx: click.Context, ranks: int, least: int, restarts: int, mpiexec: str | None, script: str,
    arguments: tuple[str, ...],
) -> None:  # fmt: skip
    """Run a training SCRIPT on several ranks, and again from its newest checkpoint when one is lost.

    A rank that is killed, hangs or does not answer ends the job, which is then started again: a script that
    trains by fconv.fit with a checkpoint folder goes on where it was. An error of the script's own ends it.

    \b
    Examples:
      fconv launch -n 4 train.py --epochs 20
      fconv launch -n 8 --least 2 --mpiexec 'mpiexec -hosts a,b' train.py
    """
    from fconv.distributed.launching import launch as run

    ctx.exit(run([script, *arguments], ranks, least=least, most_restarts=restarts, mpiexec=mpiexec))
