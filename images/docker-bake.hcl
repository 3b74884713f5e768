# All images: `docker buildx bake -f images/docker-bake.hcl`, or one by its name: `... bake -f images/docker-bake.hcl train`. `make images` hands the
# variables over; Docker without buildx builds the same targets one by one. Bases are named by digest as well, so that a build can be repeated.

# The registry and path that image names begin with.
variable "VQI_IMAGES" { default = "vqi" }
variable "VERSION" { default = "0.1.0" }
variable "REVISION" { default = "" }

variable "BASE_IMAGE" {
  default = "python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b"
}
variable "GO_IMAGE" {
  default = "golang:1.26-bookworm@sha256:a688600ca24f8a4d3ca77f95b0dd40704a9fc787c826660eb7ba0b641b8b175d"
}
# Habana publishes one image a release of its software; its tag names release and build.
variable "GAUDI_BASE_IMAGE" {
  default = "vault.habana.ai/gaudi-docker/1.24.0/ubuntu24.04/habanalabs/pytorch-installer-2.10.0:1.24.0-1007"
}
variable "TORCH_INDEX" { default = "" }
variable "GOPROXY" { default = "" }
# pip's configuration, for a package index of your own. It is in no layer.
variable "PIP_CONF" { default = "" }

group "default" { targets = ["servers", "xeon"] }

group "servers" { targets = ["minio", "mlflow"] }

group "xeon" {
  targets = ["ingest", "check-dataset", "train", "build-index", "evaluate", "export", "predict", "compare"]
}

group "gaudi" { targets = ["train-gaudi", "build-index-gaudi", "evaluate-gaudi"] }

target "common" {
  context    = "."
  dockerfile = "images/Dockerfile"
  platforms  = ["linux/amd64"]
  args = {
    BASE_IMAGE       = BASE_IMAGE
    GAUDI_BASE_IMAGE = GAUDI_BASE_IMAGE
    TORCH_INDEX      = TORCH_INDEX
    VERSION          = VERSION
    REVISION         = REVISION
  }
  secret = PIP_CONF == "" ? [] : ["type=file,id=pip,src=${PIP_CONF}"]
}

target "ingest" {
  inherits = ["common"]
  target   = "ingest"
  tags     = ["${VQI_IMAGES}/ingest:${VERSION}"]
}

target "check-dataset" {
  inherits = ["common"]
  target   = "check-dataset"
  tags     = ["${VQI_IMAGES}/check-dataset:${VERSION}"]
}

target "train" {
  inherits = ["common"]
  target   = "train"
  tags     = ["${VQI_IMAGES}/train:${VERSION}"]
}

target "build-index" {
  inherits = ["common"]
  target   = "build-index"
  tags     = ["${VQI_IMAGES}/build-index:${VERSION}"]
}

target "evaluate" {
  inherits = ["common"]
  target   = "evaluate"
  tags     = ["${VQI_IMAGES}/evaluate:${VERSION}"]
}

target "export" {
  inherits = ["common"]
  target   = "export"
  tags     = ["${VQI_IMAGES}/export:${VERSION}"]
}

target "predict" {
  inherits = ["common"]
  target   = "predict"
  tags     = ["${VQI_IMAGES}/predict:${VERSION}"]
}

target "compare" {
  inherits = ["common"]
  target   = "compare"
  tags     = ["${VQI_IMAGES}/compare:${VERSION}"]
}

target "train-gaudi" {
  inherits = ["common"]
  target   = "train-gaudi"
  tags     = ["${VQI_IMAGES}/train-gaudi:${VERSION}"]
}

target "build-index-gaudi" {
  inherits = ["common"]
  target   = "build-index-gaudi"
  tags     = ["${VQI_IMAGES}/build-index-gaudi:${VERSION}"]
}

target "evaluate-gaudi" {
  inherits = ["common"]
  target   = "evaluate-gaudi"
  tags     = ["${VQI_IMAGES}/evaluate-gaudi:${VERSION}"]
}

target "mlflow" {
  inherits = ["common"]
  target   = "mlflow"
  tags     = ["${VQI_IMAGES}/mlflow:${VERSION}"]
}

target "minio" {
  context    = "."
  dockerfile = "images/minio.Dockerfile"
  platforms  = ["linux/amd64"]
  target     = "minio"
  tags       = ["${VQI_IMAGES}/minio:${VERSION}"]
  args = {
    GO_IMAGE = GO_IMAGE
    GOPROXY  = GOPROXY
    VERSION  = VERSION
    REVISION = REVISION
  }
}
