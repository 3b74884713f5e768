#!/usr/bin/env bash
# A cluster on a laptop, from nothing to a run of the demo's category: kind, Kubeflow Pipelines, ours. Run again, it goes on where it stopped.
#
#   make cluster-up                 # or manifests/kind/up.sh
#   RUN=no manifests/kind/up.sh     # without the run
#
# Needs docker, kind 0.30, kubectl, git, 12 GB of memory for Docker and 40 GB of its disk, and a way to GitHub and the registries of Kubeflow Pipelines.
set -euo pipefail
cd "$(dirname "$0")/../.."
CLUSTER=${CLUSTER:-vqi}
NAMESPACE=vqi
BIN=${BIN:-.venv/bin}
DOCKER=${DOCKER:-docker}
export KUBECONFIG=${CLUSTER_KUBECONFIG:-$PWD/.cluster/kubeconfig}

say() { printf '\n== %s\n' "$*" >&2; }
fail() { echo "cluster-up: $1" >&2; exit "${2:-1}"; }
k() { kubectl --namespace "$NAMESPACE" "$@"; }

# ---- what must be there ------------------------------------------------------------------------
for tool in "$DOCKER" kind kubectl git; do
  command -v "$tool" >/dev/null || fail "$tool is not installed (docs/cluster.md says what is needed)." 2
done
"$DOCKER" info >/dev/null 2>&1 || fail "Docker does not answer; start it, or see that you may use it (docker info)." 2
memory=$("$DOCKER" info --format '{{.MemTotal}}')
[ "$memory" -ge 10000000000 ] || fail "Docker has $((memory / 1000000)) MB of memory; give it 12 GB." 2
[ -x "$BIN/python" ] && [ -x "$BIN/vqi" ] || fail "there is no $BIN/vqi; run make setup first." 2
kind version | grep -q 'v0\.30\.' || echo "cluster-up: $(kind version) is not the v0.30 that the node image belongs to; it may refuse it." >&2
mkdir -p "$(dirname "$KUBECONFIG")"

# ---- the cluster -------------------------------------------------------------------------------
if kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; then
  say "The cluster $CLUSTER is there"
  kind export kubeconfig --name "$CLUSTER" --kubeconfig "$KUBECONFIG" >/dev/null
else
  say "Making the cluster $CLUSTER (a minute or two)"
  kind create cluster --name "$CLUSTER" --config manifests/kind/cluster.yaml --wait 180s
fi
kubectl get nodes -l vqi/pool=xeon -o name | grep -q . || fail "no node has the label vqi/pool=xeon; make cluster-down, then again."

# ---- images ------------------------------------------------------------------------------------
version=$("$BIN/python" -c 'from importlib.metadata import version; print(version("vqi"))')
ours() { "$DOCKER" image ls --format '{{.Repository}}:{{.Tag}}' | grep -E "^vqi/[a-z-]+:$version$" | grep -v -- '-gaudi:' | sort -u; }
for needed in $("$BIN/python" -c 'from vqi.placement import STEP_TABLE; print(*sorted({step.image for step in STEP_TABLE}))') minio mlflow; do
  "$DOCKER" image inspect "vqi/$needed:$version" >/dev/null 2>&1 || { say "Building the images"; make images; break; }
done
say "Loading the images into the cluster"
# One by one: kind keeps a copy on disk of all that it is given at once.
for image in $(ours); do
  "$DOCKER" exec "$CLUSTER-control-plane" crictl inspecti "docker.io/$image" >/dev/null 2>&1 || kind load docker-image --name "$CLUSTER" "$image"
done

# ---- ours, then Kubeflow Pipelines -------------------------------------------------------------
say "Applying the manifests"
kubectl apply --server-side -f manifests/base/namespace.yaml
manifests/make-secrets.sh "$NAMESPACE"
kubectl apply --server-side -k manifests/overlays/kind
kubectl apply --server-side -k manifests/kind/kfp/cluster-scoped
kubectl wait --for=condition=established --timeout=60s crd/workflows.argoproj.io crd/workflowtaskresults.argoproj.io crd/scheduledworkflows.kubeflow.org
kubectl apply --server-side -k manifests/kind/kfp

say "Waiting for all of it (images of Kubeflow Pipelines are pulled: some minutes the first time)"
k rollout status deployment/minio deployment/mlflow --timeout=300s
# The job goes away five minutes after it is done.
if k get job vqi-buckets >/dev/null 2>&1; then
  k wait --for=condition=complete --timeout=300s job/vqi-buckets || fail "the buckets were not made: kubectl -n $NAMESPACE logs job/vqi-buckets"
fi
for deployment in mysql metadata-grpc-deployment ml-pipeline ml-pipeline-persistenceagent ml-pipeline-scheduledworkflow ml-pipeline-ui workflow-controller; do
  k rollout status "deployment/$deployment" --timeout=900s || {
    k get pods >&2
    fail "$deployment did not come up: kubectl -n $NAMESPACE describe deployment $deployment"
  }
done

# ---- the demo's category -----------------------------------------------------------------------
cat >&2 <<TEXT

The cluster is up:
  export KUBECONFIG=$KUBECONFIG
  kubectl -n $NAMESPACE port-forward service/ml-pipeline-ui 8080:80      # Kubeflow Pipelines: http://localhost:8080
  kubectl -n $NAMESPACE port-forward service/mlflow 5000                 # MLflow: http://localhost:5000
TEXT
[ "${RUN:-yes}" = yes ] || exit 0
say "Rendering the demo's photographs and storing them at s3://vqi/demo/parts"
key() { k get secret vqi-store -o "jsonpath={.data.$1}" | base64 -d; }
port=${MINIO_PORT:-19000}
k port-forward service/minio "$port:9000" >/dev/null &
forward=$!
trap 'kill $forward 2>/dev/null || true' EXIT
AWS_ACCESS_KEY_ID=$(key AWS_ACCESS_KEY_ID) AWS_SECRET_ACCESS_KEY=$(key AWS_SECRET_ACCESS_KEY)
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION=us-east-1 AWS_ENDPOINT_URL=http://127.0.0.1:$port
"$BIN/python" manifests/kind/demo_parts.py s3://vqi/demo/parts

say "Submitting the category flange"
"$BIN/vqi" submit --category flange --set data.source=s3://vqi/demo/parts --pool any --namespace "$NAMESPACE" --server-namespace "$NAMESPACE" --wait
