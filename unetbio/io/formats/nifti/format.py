"""NIfTI, whose compressed files begin as all gzip streams do: the name has to say it, too."""

from unetbio.io.formats.registry import Format, register

SUFFIXES = (".nii", ".nii.gz")
MAGIC = {344: (b"n+1\0", b"ni1\0"), 4: (b"n+2\0", b"ni2\0")}
"""Bytes that mark the two versions of the header, by their place."""


def _matches(name: str, head: bytes) -> bool:
    marked = any(head.startswith(marks, place) for place, marks in MAGIC.items())
    return name.endswith(SUFFIXES) and (marked or head.startswith(b"\x1f\x8b"))


register(
    Format(
        name="nifti",
        title="NIfTI",
        suffixes=SUFFIXES,
        long_suffixes=(".nii.gz",),
        contents="axes X, Y, Z, T, C; slope and intercept; voxel size where the header names a unit of length; the "
        "affine, which label images get, too",
        reader="unetbio.io.formats.nifti.reader:read_nifti",
        libraries=("nibabel",),
        matches=_matches,
        writers=dict.fromkeys(("labels", "probabilities"), "unetbio.io.formats.nifti.writer:write_nifti"),
        label_suffix=".nii.gz",
        holds_one=True,
        is_decoded_whole=True,
    )
)
