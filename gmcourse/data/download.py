"""Fetching published files once, and knowing that they are the right ones.

`pooch` keeps the cache: a file whose SHA-256 differs is fetched again, a download is checked first,
and one that breaks off is tried again. pooch starts anew each time; `Resuming` is a downloader for it that
goes on where the last attempt stopped (an HTTP range request), also after Ctrl-C. Addresses are tried in
turn. Nothing here runs on import.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import pooch
from tqdm.auto import tqdm

from gmcourse.data.errors import DataCorrupt, DataUnavailable

RETRIES = 2  # further attempts at one address, after pauses of 1 and 2 seconds
TIMEOUT = 30.0  # seconds without an answer


@dataclass(frozen=True)
class Published:
    """A file that others publish: its name, addresses in the order of trying, and the SHA-256 it may have.

    The first digest is that of the file at the addresses; further ones are other packings of the same data.
    """

    name: str
    addresses: tuple[str, ...]
    sha256: tuple[str, ...]


@dataclass(frozen=True)
class Resuming:
    """A downloader for pooch that keeps in `partial` what it got when it is cut off, and goes on from it."""

    partial: Path

    def __call__(self, url: str, output_file: str, _pooch: object) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.partial, output_file)  # atomic: two processes never write to one partial file
        try:
            append(url, output_file)
        except BaseException:
            if os.path.getsize(output_file):
                os.replace(output_file, self.partial)
            raise


def append(url: str, path: str) -> None:
    """Fetch what `path` still lacks of `url`; all of it where the server knows no ranges.

    Raises the built-in `ConnectionError` where nobody answers (pooch does not try that again), requests' own
    errors where an answer is bad or breaks off.
    """
    import requests  # as pooch does it: 0.1 s that only a download costs

    with open(path, "ab") as file:
        have = file.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        except requests.ConnectionError as error:
            raise ConnectionError(f"no connection ({type(error).__name__})") from error
        with response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # it was complete; pooch compares the hash
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                have = file.truncate(0)
            total = have + int(response.headers.get("content-length", 0))
            name = url.rsplit("/", 1)[-1]
            with tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name) as bar:
                for chunk in response.iter_content(1 << 16):
                    bar.update(file.write(chunk))


def fetch(file: Published, folder: Path, *, instead: str) -> Path:
    """The path of `file` in `folder`, fetched first where it is missing there or damaged.

    Raises `DataUnavailable`, naming the file, the folder and the offline set `instead`, when that fails.
    """
    path = folder / file.name
    if path.is_file() and pooch.file_hash(path) in file.sha256:
        return path
    reasons = []
    for address in file.addresses:
        store = pooch.create(folder, base_url="", registry={file.name: file.sha256[0]},
                             urls={file.name: address}, retry_if_failed=RETRIES)
        try:
            return Path(store.fetch(file.name, downloader=Resuming(path.with_name(file.name + ".part"))))
        except (OSError, ValueError) as error:  # OSError: requests; ValueError: another hash
            reasons.append(f"{address}: {error}")
    state = "damaged" if path.exists() else "missing"
    raise DataUnavailable(f"{path} is {state} and could not be fetched ({'; '.join(reasons)}). "
                          f"Put {file.name} into {folder} by hand, or use load_images({instead!r}), "
                          "which needs no network.")


def require(file: Published, folder: Path, *, instead: str) -> Path:
    """The path of `file` in a folder of the user's own, where nothing is fetched or replaced.

    Raises `DataUnavailable` when it is missing and `DataCorrupt` when its SHA-256 is not a published one.
    """
    path = folder / file.name
    if not path.is_file():
        raise DataUnavailable(f"no {file.name} in {folder}. Put the file there (from {file.addresses[0]}), "
                              "leave root out to have it fetched, "
                              f"or use load_images({instead!r}), which needs no network.")
    if (digest := pooch.file_hash(path)) not in file.sha256:
        raise DataCorrupt(f"{path}: SHA-256 {digest}; the published file has {file.sha256[0]}")
    return path
