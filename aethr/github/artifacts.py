"""The records of shards, from the jobs of a run to the job that merges them.

They travel as artifacts, which every job of the run can write. So a record counts only with a seal made from
a provider's key, over the record and what it is bound to: repository, run, pull request, base, head, workflow
file, version, comment key, shard and attempt. The plan is a part of the record.

Of a shard that ran again, the highest attempt counts; the ids of artifacts are not in the order of time
(https://github.com/Systemorph/MeshWeaver/issues/4303). The artifacts are read with the REST API, which lists
those of all attempts, and works on GitHub Enterprise Server too.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from aethr.base import codec, disk
from aethr.base.outside import at, count, text
from aethr.base.records import RunResult, Seal, Shard
from aethr.engine import checkpoint
from aethr.engine.seal import find_record_doubt, seal_record
from aethr.github.runner import Runner
from aethr.github.upsert import Api, ApiError
from aethr.output import report
from aethr.run.shards import ShardRecord, parse

_NAME = re.compile(r"aethr-(.+)-shard-([1-9][0-9]{0,3})-of-([1-9][0-9]{0,3})-attempt-([1-9][0-9]{0,8})")
_GONE = (404, 410)


class Origin(NamedTuple):
    """The job that left a record: its comment key, its shard, and the attempt of the run."""

    key: str
    shard: Shard
    attempt: int

    def __str__(self) -> str:
        """The name of the artifact."""
        return f"aethr-{self.key}-shard-{self.shard.number}-of-{self.shard.of}-attempt-{self.attempt}"

    def bind(self, seal: Seal) -> Mapping[str, str]:
        """What the record is bound to: what the run is about, and this job."""
        run = {name: value for name, value in seal.binding.items() if name != "job"}
        own = {
            "comment_key": self.key,
            "shard": str(self.shard.number),
            "number_of_shards": str(self.shard.of),
        }
        return {**run, **own, "attempt": str(self.attempt)}


def write(folder: Path, result: RunResult, seal: Seal, origin: Origin) -> Path:
    """Write the sealed record into the folder, named like its artifact. Raises ``DiskError``."""
    sealed = seal_record(report.record(result), seal.keys, origin.bind(seal))
    file = folder / f"{origin}.json"
    with disk.failing_as(f"{folder}: cannot be made", "Is RUNNER_TEMP a folder?"):
        folder.mkdir(parents=True, exist_ok=True)
    with disk.failing_as(f"{file}: cannot be written"):
        disk.write(file, codec.dumps(sealed))
    return file


def takes_artifacts(server_url: str) -> bool:
    """Whether the server has the artifacts of upload-artifact v4 and later, which GHES does not have."""
    host = urlsplit(server_url).hostname or "github.com"
    return host == "github.com" or host.endswith(".ghe.com")


class ShardRecords(NamedTuple):
    """The records of a run that count, and a line for each that does not."""

    records: tuple[ShardRecord, ...] = ()
    refused: tuple[str, ...] = ()


def collect(api: Api, runner: Runner, key: str, seal: Seal) -> ShardRecords:
    """The newest record of each shard that this run has with this comment key. Raises ``ApiError``."""
    opened = [_open(api, runner, *each, seal) for each in _find_newest(api, runner, key)]
    return ShardRecords(
        tuple(each for each in opened if isinstance(each, ShardRecord)),
        tuple(each for each in opened if isinstance(each, str)),
    )


def _find_newest(api: Api, runner: Runner, key: str) -> Iterator[tuple[Origin, object]]:
    """The artifacts of each shard's highest attempt, as the API lists them."""
    found: dict[Shard, list[tuple[Origin, object]]] = defaultdict(list)
    path = f"/repos/{runner.repository}/actions/runs/{runner.run_id}/artifacts?per_page=100"
    try:
        for each in api.pages(path, "artifacts"):
            match = _NAME.fullmatch(text(at(each, "name")))
            if match is not None and match[1] == key:
                number, of, attempt = map(int, match.groups()[1:])
                found[Shard(number, of)].append((Origin(key, Shard(number, of), attempt), each))
    except ApiError as error:
        if error.status == 403:
            error.fix = "Give the job `permissions: actions: read`."
        raise
    for _, of_shard in sorted(found.items()):
        last = max(origin.attempt for origin, _ in of_shard)
        yield from (each for each in of_shard if each[0].attempt == last)


def _open(api: Api, runner: Runner, origin: Origin, artifact: object, seal: Seal) -> ShardRecord | str:
    """The record in an artifact, or a line that says why it does not count. Raises ``ApiError``."""
    try:
        return _read(api, runner, origin, artifact, seal)
    except ValueError as error:
        shard = f"shard {origin.shard.number} of {origin.shard.of}"
        return f"the record of {shard}, attempt {origin.attempt}, does not count: {error}"


def _read(api: Api, runner: Runner, origin: Origin, artifact: object, seal: Seal) -> ShardRecord:
    """Raises ``ValueError`` with one line, and ``ApiError``."""
    if count(at(artifact, "size_in_bytes")) > checkpoint.MAX_BYTES:
        raise ValueError(f"it is larger than {checkpoint.MAX_BYTES >> 20} MiB")
    path = f"/repos/{runner.repository}/actions/artifacts/{count(at(artifact, 'id'))}/zip"
    try:
        content = _unpack(api.download(path, checkpoint.MAX_BYTES))
    except ApiError as error:
        if error.status not in _GONE:
            raise
        raise ValueError("its artifact has expired or was deleted") from error
    try:
        document = codec.an_object(codec.loads(content.decode()), "a record")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    if doubt := find_record_doubt(document, seal.keys, origin.bind(seal)):
        raise ValueError(doubt)
    record = parse(f"shard {origin.shard.number}, attempt {origin.attempt}", document)
    if (record.shard.number, record.shard.of) != origin.shard:
        raise ValueError(f"it is of shard {record.shard.number} of {record.shard.of}")
    return record


def _unpack(data: bytes) -> bytes:
    """The one file in a zip as upload-artifact makes it. Raises ``ValueError``."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            [entry] = archive.infolist()
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("compressed in another way")
            with archive.open(entry) as file:
                content = file.read(checkpoint.MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError) as error:
        raise ValueError("its artifact is not a zip with one file") from error
    if len(content) > checkpoint.MAX_BYTES:
        raise ValueError(f"it is larger than {checkpoint.MAX_BYTES >> 20} MiB")
    return content
