#!/bin/bash
# The tracking server of compose.yaml. libpq reads the password from PGPASSWORD, so that it is on no command line.
set -euo pipefail
port=${1:?the port}
PGPASSWORD=$(cat /run/secrets/database_password)
export PGPASSWORD
echo "MLflow UI: http://127.0.0.1:$port"
exec mlflow server --host 0.0.0.0 --port "$port" --workers 2 --uvicorn-opts "--timeout-worker-healthcheck 120" \
  --allowed-hosts "127.0.0.1:$port,localhost:$port" \
  --backend-store-uri postgresql+psycopg2://mlflow@database/mlflow \
  --artifacts-destination /headwise/mlruns/artifacts
