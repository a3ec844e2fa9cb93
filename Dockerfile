# The headwise image: see docs/containers.md. docker/build.sh builds it and passes the commit.
FROM python:3.11-slim-bookworm

# Libraries first, in a layer that is rebuilt only if requirements.txt changes. PyPI's torch includes CUDA.
COPY requirements.txt docker/server.txt docker/ray.txt /tmp/requirements/
WORKDIR /tmp/requirements
RUN pip install --no-cache-dir -r requirements.txt -r server.txt -r ray.txt

# Writable folders are world-writable, so that --user works with any uid.
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

# Last, so that a new commit with unchanged files rebuilds none of the layers above.
ARG COMMIT=unknown
ENV HEADWISE_COMMIT=$COMMIT \
    HEADWISE_IMAGE=headwise:$COMMIT
LABEL org.opencontainers.image.title="headwise" \
      org.opencontainers.image.revision=$COMMIT

USER 1000:1000
# Runs `mlflow run . --env-manager local` with the given options, or the given command.
ENTRYPOINT ["/headwise/docker/entrypoint.sh"]
