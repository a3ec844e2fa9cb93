#!/bin/bash
# Builds the image as headwise and headwise:COMMIT; COMMIT-dirty if the working tree has changes. Options are passed to docker build.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git describe --always --dirty --abbrev=40 --exclude='*')
DOCKER_BUILDKIT=1 docker build --build-arg COMMIT="$commit" --tag headwise --tag "headwise:$commit" "$@" .
