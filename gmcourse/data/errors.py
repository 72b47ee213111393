"""What a request for images can run into: data missing, data damaged, a split that is not known.

`DataUnavailable` says which file is missing, which folder it belongs in and what to use without a network.
`DataCorrupt` names the path and the reason: a checksum that differs, or bytes of another format.
"""

SPLITS = ("train", "test")


class DataUnavailable(OSError):
    """A file of a data set is neither here nor to be fetched; the message says what to do instead."""


class DataCorrupt(ValueError):
    """A file of a data set is there but damaged or of another format; the message is `PATH: REASON`."""


def check_split(split: str) -> None:
    """Raise `ValueError` unless `split` is "train" or "test"."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
