#!/usr/bin/env bash
# Makes the secrets that the manifests refer to, where they are missing; what is there is never changed. No key is shown, and none stands in any file
# or command line.
#
#   manifests/make-secrets.sh NAMESPACE           # a new random key pair: for components/minio
#   AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... manifests/make-secrets.sh NAMESPACE   # the keys of a store that exists
#
# MLFLOW_BACKEND_STORE_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are taken where they are set.
set -euo pipefail
namespace=${1:?name the namespace: manifests/make-secrets.sh NAMESPACE}
k() { kubectl --namespace "$namespace" "$@"; }
there() { k get secret "$1" >/dev/null 2>&1; }
random() { head -c 64 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' | head -c "$1"; }
of() { k get secret "$1" -o "jsonpath={.data.$2}" | base64 -d; }
# The values come through a pipe: arguments can be read by every user of the machine.
make_secret() { k create secret generic "$1" --from-env-file=/dev/stdin; }

kubectl get namespace "$namespace" >/dev/null || { echo "make-secrets: there is no namespace $namespace (kubectl apply -k manifests/base makes vqi)." >&2; exit 2; }

if there vqi-store; then
  echo "secret/vqi-store is there"
elif there mlpipeline-minio-artifact && [ -z "${AWS_ACCESS_KEY_ID:-}" ]; then
  printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$(of mlpipeline-minio-artifact accesskey)" "$(of mlpipeline-minio-artifact secretkey)" | make_secret vqi-store
elif [ -n "${AWS_ACCESS_KEY_ID:-}" ] && [ -n "${AWS_SECRET_ACCESS_KEY:-}" ]; then
  { printf 'AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
    [ -z "${AWS_SESSION_TOKEN:-}" ] || printf 'AWS_SESSION_TOKEN=%s\n' "$AWS_SESSION_TOKEN"; } | make_secret vqi-store
elif [ -n "${AWS_ACCESS_KEY_ID:-}${AWS_SECRET_ACCESS_KEY:-}" ]; then
  echo "make-secrets: only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set; set both, or neither for a new pair." >&2
  exit 2
else
  printf 'AWS_ACCESS_KEY_ID=vqi-%s\nAWS_SECRET_ACCESS_KEY=%s\n' "$(random 12)" "$(random 40)" | make_secret vqi-store
fi

# The same keys under the names that Kubeflow Pipelines asks for.
if there mlpipeline-minio-artifact; then
  echo "secret/mlpipeline-minio-artifact is there"
else
  printf 'accesskey=%s\nsecretkey=%s\n' "$(of vqi-store AWS_ACCESS_KEY_ID)" "$(of vqi-store AWS_SECRET_ACCESS_KEY)" | make_secret mlpipeline-minio-artifact
fi

if [ -n "${MLFLOW_BACKEND_STORE_URI:-}" ]; then
  if there vqi-mlflow; then echo "secret/vqi-mlflow is there"; else printf 'MLFLOW_BACKEND_STORE_URI=%s\n' "$MLFLOW_BACKEND_STORE_URI" | make_secret vqi-mlflow; fi
fi
if [ -n "${MLFLOW_TRACKING_USERNAME:-}" ]; then
  if there vqi-tracking; then
    echo "secret/vqi-tracking is there"
  else
    printf 'MLFLOW_TRACKING_USERNAME=%s\nMLFLOW_TRACKING_PASSWORD=%s\n' "$MLFLOW_TRACKING_USERNAME" "${MLFLOW_TRACKING_PASSWORD:-}" | make_secret vqi-tracking
  fi
fi
