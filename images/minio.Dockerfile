# An S3 store for a cluster that has none. MinIO has published source only since October 2025 and was archived in April 2026, so it is built from the last
# state of its Go module. Nothing of ours but its manifest asks for MinIO: any other S3 store does as well.
#
#   docker build -f images/minio.Dockerfile -t vqi/minio:0.1.0 .
ARG GO_IMAGE=golang:1.26-bookworm

FROM ${GO_IMAGE} AS build
ARG MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
# Where Go modules are fetched from; empty: Go's own choice. The checksum database is asked in any case.
ARG GOPROXY=""
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/go/cache \
    GOCACHE=/go/cache CGO_ENABLED=0 GOTOOLCHAIN=local GOPATH=/go GOBIN=/out go install -trimpath -ldflags "-s -w" "github.com/minio/minio@${MINIO_VERSION}" \
    && mkdir /data && cp "/go/pkg/mod/github.com/minio/minio@${MINIO_VERSION}/LICENSE" "/go/pkg/mod/github.com/minio/minio@${MINIO_VERSION}/CREDITS" /out/

FROM scratch AS minio
ARG MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="minio" \
      org.opencontainers.image.description="MinIO, built from its Go module at ${MINIO_VERSION}" \
      org.opencontainers.image.source="https://github.com/minio/minio" \
      org.opencontainers.image.licenses="AGPL-3.0-or-later" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out /
# A new volume of Docker's takes the owner of the folder it is mounted on.
COPY --from=build --chown=1000:1000 /data /data
# No shell, nothing but the server. It keeps its own settings under HOME; data belongs on a volume at /data.
ENV HOME=/tmp
EXPOSE 9000 9001
USER 1000:1000
ENTRYPOINT ["/minio"]
CMD ["server", "/data", "--console-address", ":9001"]
