#!/bin/bash
# Prints the value of a -v and the further options that `docker run` needs for this host's tracking store.
set -euo pipefail
cache=${HF_HOME:-$HOME/.cache/huggingface}
mkdir -p "$cache"
options="$cache:/cache/huggingface --user $(id -u):$(id -g)"

case $MLFLOW_TRACKING_URI in
  sqlite:///* | file:///*) # the folder of the store, at the same path: runs record absolute artifact paths
    folder=$(dirname "$(realpath --canonicalize-missing --no-symlinks "${MLFLOW_TRACKING_URI#*:}")")
    options+=" --volume $folder:$folder"
    home=${HEADWISE_HOME:-$folder/.headwise}
    ;;
  http://127.0.0.1* | http://localhost*) # a server on this host's loopback
    tr '\0' ' ' <"/proc/$PPID/cmdline" | grep -q -- '--net' || options+=" --network host"
    ;;
esac
if [[ -n ${home:=${HEADWISE_HOME:-}} ]]; then # spooled answers, so that a restarted study resumes
  home=$(realpath --canonicalize-missing "$home")
  mkdir -p "$home"
  options+=" --volume $home:$home --env HEADWISE_HOME=$home"
else
  options+=" --volume headwise-answers:/headwise/mlruns"
fi
echo "$options"
