"""Docker client: find a headwise image and run one command in a container of it."""

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

# The image label with the commit the image was built from (OCI image annotations).
REVISION = "org.opencontainers.image.revision"

# Recorded as commit if the build named none or the code is not in a git checkout.
UNKNOWN = "unknown"

NO_GPUS = ("", "none", "void")


class EngineError(HeadwiseError):
    """No Docker engine, no image, or a container that does not run."""


@dataclass(frozen=True, kw_only=True)
class ContainerJob:
    """A command to run in a container. Folders are mounted at the path they have on the host.

    `gpus` is NVIDIA_VISIBLE_DEVICES as docker sets it for --gpus: `none`, `all`, or comma-separated indices or ids.
    """

    image: str
    command: Sequence[str]
    work: Path
    read_only: Mapping[Path, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: str = "none"


@contextmanager
def engine() -> Iterator[Any]:
    """A client of the Docker engine at DOCKER_HOST or docker's default address. EngineError if none answers."""
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
    """Id of the image `name` if it was built from `commit`, else of any image that was.

    EngineError, with build instructions, if there is none. An image without a recorded commit (`unknown`) never
    matches.
    """
    if commit in ("", UNKNOWN):
        raise EngineError(
            "image: the run does not record the commit of its code (its image was not built by docker/build.sh), so "
            "no image can be verified to match; name one with --image"
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
    """Id and commit of the image `name`. EngineError if there is none."""
    try:
        image = client.images.get(name)
    except ImageNotFound as error:
        raise EngineError(f"image: this engine has no image {name}; docker/build.sh builds one") from error
    return image.id, revision(image)


def revision(image: Any) -> str:
    """The commit that the image was built from, by its label; UNKNOWN where it has none."""
    return (image.labels or {}).get(REVISION) or UNKNOWN


def run(client: Any, job: ContainerJob, out: BinaryIO) -> None:
    """Run the job to completion, copying its output to `out`; the container is always removed.

    It has no network and runs as the calling user. EngineError if it cannot start or exits with an error.
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
    """Device requests, as `docker run --gpus` makes them."""
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
