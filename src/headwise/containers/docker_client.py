"""One command in a container of a headwise image: found, started, followed, removed. Knows nothing of studies."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import requests
from docker.client import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound
from docker.types import DeviceRequest

from headwise.errors import HeadwiseError

# The label that holds the commit an image was built from (OCI image annotations).
REVISION = "org.opencontainers.image.revision"

# The commit of what was built without naming one, and of code that is in no checkout.
UNKNOWN = "unknown"

NO_GPUS = ("", "none", "void")


class EngineError(HeadwiseError):
    """No Docker engine, no image, or a container that the engine cannot run."""


@dataclass(frozen=True, kw_only=True)
class ContainerJob:
    """What runs in a container. Folders appear inside at the path they have on this machine.

    `gpus` is NVIDIA_VISIBLE_DEVICES as docker sets it for --gpus: `none`, `all`, or indices or ids with commas.
    """

    image: str
    command: Sequence[str]
    work: Path
    read_only: Mapping[Path, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: str = "none"


@contextmanager
def engine() -> Iterator[Any]:
    """A client of the engine that DOCKER_HOST or docker's default names. EngineError where none answers."""
    try:
        client = DockerClient.from_env()
        client.ping()
    except (DockerException, requests.RequestException) as error:
        where = os.environ.get("DOCKER_HOST", "its default address")
        raise EngineError(f"engine: no Docker engine answers at {where}; start it or set DOCKER_HOST") from error
    try:
        yield client
    finally:
        client.close()


def find_image(client: Any, name: str | None, commit: str) -> str:
    """Id of the image of that name if it was built from `commit`, else of any image that was.

    EngineError where there is none; it says how to build one. An image that does not say what it was built
    from (`unknown`) is of no commit.
    """
    if commit in ("", UNKNOWN):
        raise EngineError(
            "image: the run does not record the commit of its code (its image was not built by docker/build.sh), so "
            "none can be said to be the same; name one with --image"
        )
    try:
        image = client.images.get(name) if name else None
    except ImageNotFound:
        image = None
    if image is not None and revision(image) == commit:
        return image.id
    built = client.images.list(filters={"label": f"{REVISION}={commit}"})
    if built:
        return built[0].id
    state = f"has no image {name}" if image is None else f"has {name} of commit {revision(image)}"
    raise EngineError(
        f"image: this engine {state}, and none that was built from commit {commit}; "
        f"build it (git checkout {commit.removesuffix('-dirty')} && docker/build.sh) or name one with --image"
    )


def named_image(client: Any, name: str) -> tuple[str, str]:
    """Id and commit of the image of that name. EngineError where there is none."""
    try:
        image = client.images.get(name)
    except ImageNotFound as error:
        raise EngineError(f"image: this engine has no image {name}; docker/build.sh builds one") from error
    return image.id, revision(image)


def revision(image: Any) -> str:
    return (image.labels or {}).get(REVISION) or UNKNOWN


def run(client: Any, job: ContainerJob, out: BinaryIO) -> None:
    """Run the job to its end, copying what it prints to `out`; the container is removed whatever happens.

    It has no network and runs as the calling user. EngineError where it cannot start or ends with an error.
    """
    volumes = {str(path): {"bind": inside, "mode": "ro"} for path, inside in job.read_only.items()}
    volumes[str(job.work)] = {"bind": str(job.work), "mode": "rw"}
    try:
        container = client.containers.create(
            job.image,
            list(job.command),
            environment=dict(job.environment),
            volumes=volumes,
            working_dir=str(job.work),
            user=f"{os.getuid()}:{os.getgid()}",
            network_mode="none",
            device_requests=device_requests(job.gpus),
            tty=out.isatty(),
        )
    except APIError as error:
        raise EngineError(f"container: the engine refuses it: {error.explanation}") from error
    try:
        _follow(container, job, out)
    finally:
        container.remove(force=True)


def device_requests(gpus: str) -> list[Any]:
    """What `docker run --gpus` asks the engine for."""
    if gpus in NO_GPUS:
        return []
    which = {"count": -1} if gpus == "all" else {"device_ids": gpus.split(",")}
    return [DeviceRequest(driver="", capabilities=[["gpu"]], **which)]


def _follow(container: Any, job: ContainerJob, out: BinaryIO) -> None:
    last = b""
    try:
        container.start()
        for chunk in container.logs(stream=True, follow=True):
            out.write(chunk)
            out.flush()
            last = (last + chunk)[-4096:]
        code = container.wait()["StatusCode"]
    except APIError as error:
        devices = "" if job.gpus in NO_GPUS else f" with GPUs {job.gpus}"
        raise EngineError(f"container: the engine cannot start it{devices}: {error.explanation}") from error
    if code:
        lines = last.decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        raise EngineError(f"container: the study ended with exit code {code}: {lines[-1]}")
