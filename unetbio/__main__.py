"""``python -m unetbio`` is ``unetbio``."""

from unetbio.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    main(prog_name="unetbio")
