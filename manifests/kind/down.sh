#!/usr/bin/env bash
# Removes the laptop's cluster with everything in it: runs, photographs, figures. Images that were built stay with Docker.
set -euo pipefail
cd "$(dirname "$0")/../.."
CLUSTER=${CLUSTER:-vqi}
command -v kind >/dev/null || { echo "cluster-down: kind is not installed." >&2; exit 2; }
kind delete cluster --name "$CLUSTER" --kubeconfig "${CLUSTER_KUBECONFIG:-$PWD/.cluster/kubeconfig}"
rm -rf .cluster
