#!/bin/bash
# Options are passed to the main job; any other first argument is run as a command instead.
set -euo pipefail
store=/headwise/mlruns

if [[ $MLFLOW_TRACKING_URI == "sqlite:///$store/mlflow.db" ]]; then
  if ! [[ -w $store ]]; then
    echo "headwise: uid $(id -u) cannot write to $store: add --user \"\$(id -u):\$(id -g)\" to docker run" >&2
    exit 2
  fi
  if ! grep -q " $store " /proc/self/mountinfo; then
    echo "headwise: results end with this container: add -v \"\$PWD/mlruns:$store\" or -e MLFLOW_TRACKING_URI=…" >&2
  fi
fi

# Tags of every run that MLflow creates in this container; docker sets NVIDIA_VISIBLE_DEVICES for --gpus.
MLFLOW_RUN_CONTEXT=$(printf '{"mlflow.source.git.commit": "%s", "headwise.commit": "%s", "headwise.image": "%s", "headwise.gpus": "%s"}' \
  "$HEADWISE_COMMIT" "$HEADWISE_COMMIT" "$HEADWISE_IMAGE" "${NVIDIA_VISIBLE_DEVICES:-none}")
export MLFLOW_RUN_CONTEXT

case ${1:--} in
  -*) cd /headwise ;;
  *) exec "$@" ;;
esac

# `mlflow run` would record a stopped study as FAILED, so it is suspended while the study ends its run as KILLED.
stop() {
  kill -STOP "$project"
  read -r study _ <"/proc/$project/task/$project/children" || true
  if [[ -n ${study:-} ]]; then
    kill -TERM "$study"
    while readlink "/proc/$study/exe" >/dev/null; do sleep 0.2; done
  fi
  kill -KILL "$project"
  exit 143
}
trap stop TERM INT
mlflow run . --env-manager local "$@" &
project=$!
wait "$project"
