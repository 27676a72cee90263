"""Where the public data sets live, on the network and on disk, and how they come from one to the other."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnet.data.idx import idx_file
from xpnet.data.reading import one_line
from xpnet.errors import DataError

RETRIES = 2
LARGEST = 2**28
"""Bytes of any file that is downloaded, or unpacked from one, at the most: CIFAR-10 has 170 million."""
_TIMEOUT = 10  # seconds without an answer


@dataclass(frozen=True)
class Source:
    """Says where a data set is to be had.

    Attributes:
        home: Address that the names of the files are appended to.
        folder: Folder of the set inside the data folder.
        files: MD5 of each file to download, by name.
        members: Files to unpack from the one archive in ``files``; empty where the files are used as they are.
        alternative: Folder that is as good, where it is there.
    """

    home: str
    folder: str
    files: Mapping[str, str]
    members: tuple[str, ...] = ()
    alternative: str | None = None


def _idx_files(train_images: str, train_labels: str, test_images: str, test_labels: str) -> dict[str, str]:
    return {
        "train-images-idx3-ubyte.gz": train_images,
        "train-labels-idx1-ubyte.gz": train_labels,
        "t10k-images-idx3-ubyte.gz": test_images,
        "t10k-labels-idx1-ubyte.gz": test_labels,
    }


SOURCES = {
    "mnist": Source(
        home="https://ossci-datasets.s3.amazonaws.com/mnist/",
        folder="mnist",
        files=_idx_files(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
    ),
    "fashion-mnist": Source(
        home="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        folder="fashion-mnist",
        files=_idx_files(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    "cifar10": Source(
        home="https://www.cs.toronto.edu/~kriz/",
        folder="cifar-10-batches-py",
        files={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
        members=(*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"),
        alternative="cifar-10-batches-bin",
    ),
}


def locate(name: str, folder: str | Path | None = None, *, progress: bool = True) -> Path:
    """Returns the folder that holds a public data set, downloading what is missing.

    Args:
        name: A key of ``SOURCES``.
        folder: The data folder; by default that in the environment variable XPNET_DATA, else the user's cache.
        progress: Whether to show a progress bar.

    Raises:
        DataError: Files are missing and cannot be downloaded or are not the known ones.
    """
    source, root = SOURCES[name], _data_folder(folder)
    target = root / source.folder
    missing = [file for file in source.members or source.files if not idx_file(target, file).exists()]
    if missing and source.alternative and (root / source.alternative).is_dir():
        return root / source.alternative
    if missing:
        try:
            _obtain(source, missing, target, progress)
        except Exception as error:  # the network, the disk and the archive each raise their own
            raise DataError(_explanation(name, source, missing, target, error)) from error
    return target


def _data_folder(folder: str | Path | None) -> Path:
    import pooch

    return Path(folder or os.environ.get("XPNET_DATA") or pooch.os_cache("xpnet"))


def _obtain(source: Source, missing: list[str], target: Path, progress: bool) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if not source.members:
        for file in missing:
            _fetch(source, file, target, progress)
        return
    (archive,) = source.files
    with tempfile.TemporaryDirectory(dir=target) as scratch:  # on the same disk, so that a file appears whole or not
        _fetch(source, archive, Path(scratch), progress)
        with tarfile.open(Path(scratch) / archive) as tar:
            for file in missing:
                member = tar.getmember(f"{source.folder}/{file}")
                if not member.isreg() or member.size > LARGEST:
                    raise OSError(f"{member.name} is no plain file of at most {LARGEST} bytes")
                tar.extract(member, scratch, filter="data")
                os.replace(Path(scratch) / source.folder / file, target / file)


def _fetch(source: Source, file: str, into: Path, progress: bool) -> None:
    import pooch
    import requests

    def download(url: str, output: str, registry: Any) -> None:
        with ExitStack() as responses, _Bounded(output, "wb") as file:

            def keep(response: Any, **_: Any) -> None:
                responses.enter_context(response)  # pooch leaves that of a failed download open
                if response.is_redirect:
                    response.close()  # requests would read all of its body

            try:
                downloader = pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT, hooks={"response": keep})
                downloader(url, file, registry)
            except requests.exceptions.ConnectionError as error:
                raise ConnectionError(f"no connection to {url}") from error  # not requests' own: pooch would try again
            except ValueError as error:  # an address or a header; pooch raises the same for a wrong checksum
                raise OSError(f"{url}: {one_line(error)}") from error

    pooch.get_logger().setLevel("WARNING")
    store = pooch.create(into, source.home, registry={file: f"md5:{source.files[file]}"}, retry_if_failed=RETRIES)
    try:
        store.fetch(file, downloader=download)
    except ValueError as error:
        raise OSError(f"{source.home}{file} does not have the known MD5 checksum") from error


class _Bounded(io.FileIO):
    """A file that takes no more than the largest download has."""

    def write(self, chunk: Any, /) -> int:
        """Appends the chunk.

        Raises:
            OSError: It would become too large.
        """
        if self.tell() + len(chunk) > LARGEST:
            raise OSError(f"it has more than {LARGEST} bytes")
        return super().write(chunk)


def _explanation(name: str, source: Source, missing: list[str], target: Path, error: Exception) -> str:
    what = ", ".join(missing)
    if source.members:
        what += f" out of {', '.join(source.files)}"
    return f"{name} could not be downloaded ({one_line(error)}): put {what} from {source.home} into {target}"
