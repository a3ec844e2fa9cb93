# headwise in a container: docs/containers.md says how it is used. docker/build.sh builds it and names the commit.
FROM python:3.11-slim-bookworm

# The libraries first, in a layer that only a changed pin rebuilds. On a GPU host PyPI's torch brings CUDA along.
COPY requirements.txt docker/server.txt /tmp/requirements/
RUN pip install --no-cache-dir -r /tmp/requirements/requirements.txt -r /tmp/requirements/server.txt

# What has to be writable is so for everyone, so that --user works with any uid.
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /tmp headwise \
    && install -d -m 1777 /headwise/mlruns /cache /cache/huggingface
WORKDIR /headwise
COPY MLproject conda.yaml requirements.txt ./
COPY configs configs
COPY docker/entrypoint.sh docker/server.sh docker/
COPY src src

ENV HOME=/tmp \
    USER=headwise \
    HF_HOME=/cache/huggingface \
    HEADWISE_HOME=/headwise/mlruns/.headwise \
    MLFLOW_TRACKING_URI=sqlite:////headwise/mlruns/mlflow.db \
    MLFLOW_EXPERIMENT_NAME=headwise \
    GIT_PYTHON_REFRESH=quiet \
    PYTHONPATH=/headwise/src \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# Last, so that a new commit with the same files rebuilds nothing above.
ARG COMMIT=unknown
ENV HEADWISE_COMMIT=$COMMIT \
    HEADWISE_IMAGE=headwise:$COMMIT
LABEL org.opencontainers.image.title="headwise" \
      org.opencontainers.image.revision=$COMMIT

USER 1000:1000
# Runs `mlflow run . --env-manager local` with the options given, or the command given in their place.
ENTRYPOINT ["/headwise/docker/entrypoint.sh"]
