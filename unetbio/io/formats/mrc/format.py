"""MRC of electron microscopy and tomography, and the maps of CCP4, which have the same header."""

from unetbio.io.formats.registry import Format, register

register(
    Format(
        name="mrc",
        title="MRC",
        # Other programs use .map, .rec and .st too: such files are read when they are given by name.
        suffixes=(".mrc", ".mrcs"),
        contents="integers of 8 and 16 bits, reals of 16 and 32 bits, either byte order; volumes as Z, Y, X in any "
        "order of storage; images of a stack (space group 0, `mz` 1) and volumes of a stack (401) along T; where a "
        "program marks no stacks, as IMOD of tilt series, `--axes TYX` says it; pixel size from cell and sampling, "
        "trusted unless it is exactly 1 Å, which programs write that know none",
        reader="unetbio.io.formats.mrc.reader:read_mrc",
        holds_one=True,
        matches=lambda name, head: head.startswith((b"MAP ", b"MAP\0"), 208),
    )
)
