"""``unetbio view``: look at the masks of an output folder in a browser, and correct them."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from unetbio.cli import options as shared
from unetbio.cli.terminal import say
from unetbio.settings.runs import ViewRun

__all__ = ["command"]

logger = logging.getLogger("unetbio.cli.view")


@click.command()
@click.argument("out", type=shared.LocalPath(), metavar="RESULTS")
@shared.options(ViewRun)
@shared.collected(run=ViewRun)
def command(out: Path, run: ViewRun) -> None:
    """Look at the masks of an output folder in a browser, and correct them.

    RESULTS is the output folder of unetbio segment. Prints the address of a page that only this machine can reach, and
    serves it until Ctrl-C. On another machine, such as the node of a cluster, forward the port first:

    \b
        ssh -L 8642:127.0.0.1:8642 USER@MACHINE

    and open the address that is printed there. The page shows image and cells, colours them by any measurement,
    and has tools to delete, merge, split, draw and accept cells (? shows the keys). Each correction is saved at once;
    corrected masks count as edited by hand. Enter accepts an image; corrections.csv lists the accepted ones for
    unetbio train.
    """  # noqa: D301
    from unetbio.io.decoding import decode_elsewhere
    from unetbio.viewer.server import open_viewer

    with decode_elsewhere(run.decode_timeout), open_viewer(out, run.port) as viewer:
        say(viewer.address)
        port = viewer.server_port
        logger.info("only this machine reaches it; from another one: ssh -L %d:127.0.0.1:%d USER@MACHINE", port, port)
        logger.info("Ctrl-C ends it")
        opened = _opened(viewer.address) if run.open else contextlib.nullcontext()
        with contextlib.suppress(KeyboardInterrupt), opened:
            viewer.serve_forever()


@contextlib.contextmanager
def _opened(address: str) -> Iterator[None]:
    """Open an address in the browser.

    All users of the machine can read the arguments of a browser, so it is given a file that only this user can read and
    that leads to the address.
    """
    import webbrowser

    with tempfile.TemporaryDirectory(prefix="unetbio-view-", ignore_cleanup_errors=True) as folder:
        page = Path(folder, "open.html")
        page.touch(mode=0o600)
        page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">\n', encoding="utf-8")
        webbrowser.open(page.as_uri())
        yield
