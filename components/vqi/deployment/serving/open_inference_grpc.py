"""The Open Inference Protocol v2 over gRPC. Its messages come from `open_inference.proto` when the server starts."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np

from vqi.deployment.serving.open_inference import (
    EXTENSIONS,
    INPUTS,
    OUTPUTS,
    PLATFORM,
    SERVER,
    SERVER_VERSION,
    Inference,
    Tensor,
    check_input,
    check_outputs,
    infer,
)
from vqi.deployment.serving.open_inference_rest import from_binary, to_binary
from vqi.deployment.serving.refusals import Busy, NotServed, Refusal, Unauthorised
from vqi.deployment.serving.served_models import ServedModels
from vqi.deployment.serving.settings import ServeSettings
from vqi.platform.errors import BadInput, RunFailed, VqiError
from vqi.platform.logs import logger

log = logger(__name__)

PROTOCOL = "vqi/deployment/serving/open_inference.proto"
STATUS = {
    Unauthorised: grpc.StatusCode.UNAUTHENTICATED,
    NotServed: grpc.StatusCode.NOT_FOUND,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

Call = Callable[[Any, Any], Awaitable[Any]]


class GrpcServer:
    """The service at `settings.grpc_port`. `certificate`: chain and key in PEM, None for none; `token`: what the
    metadata `authorization: Bearer` must hold, "" for nothing. Raises RunFailed (from `start`) where the port is
    taken."""

    def __init__(
        self,
        models: ServedModels,
        settings: ServeSettings,
        token: str = "",
        certificate: tuple[bytes, bytes] | None = None,
    ) -> None:
        self._models, self._settings, self._token, self._certificate = models, settings, token, certificate
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        most = self._settings.body_mib << 20
        self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", most), ("grpc.max_send_message_length", -1)],
            maximum_concurrent_rpcs=self._settings.connections,
        )
        messages, services = grpc.protos_and_services(PROTOCOL)
        services.add_GRPCInferenceServiceServicer_to_server(self._service(messages, services), self._server)
        address = f"{self._settings.host}:{self._settings.grpc_port}"
        try:
            if self._certificate:
                chain, key = self._certificate
                credentials = grpc.ssl_server_credentials([(key, chain)])
                self.port = self._server.add_secure_port(address, credentials)
            else:
                self.port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise RunFailed(f"gRPC cannot listen at {address}; another program may use the port.") from error
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """End, with `grace` seconds for what is being answered."""
        if self._server:
            await self._server.stop(grace)

    def _guarded(self, call: Call, limited: bool = True) -> Call:
        async def guarded(request: Any, context: grpc.aio.ServicerContext) -> Any:
            try:
                if limited:
                    self._authorise(context)
                return await call(request, context)
            except Refusal as refusal:
                await context.abort(STATUS.get(type(refusal), grpc.StatusCode.INVALID_ARGUMENT), str(refusal))
            except BadInput as error:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except VqiError as error:
                log.error(f"gRPC: {error}")
                await context.abort(grpc.StatusCode.INTERNAL, str(error))

        return guarded

    def _authorise(self, context: grpc.aio.ServicerContext) -> None:
        if not self._token:
            return
        credential = dict(context.invocation_metadata() or ()).get("authorization", "")
        if not hmac.compare_digest(str(credential).encode(), f"Bearer {self._token}".encode()):
            raise Unauthorised("This server wants a token: authorization: Bearer TOKEN.")

    def _service(self, messages: Any, services: Any) -> Any:
        models, most = self._models, self._settings.photographs

        async def live(request: Any, context: Any) -> Any:
            return messages.ServerLiveResponse(live=True)

        async def ready(request: Any, context: Any) -> Any:
            return messages.ServerReadyResponse(ready=bool(models.names))

        async def model_ready(request: Any, context: Any) -> Any:
            models.model(request.name, request.version)
            return messages.ModelReadyResponse(ready=True)

        async def server_metadata(request: Any, context: Any) -> Any:
            return messages.ServerMetadataResponse(name=SERVER, version=SERVER_VERSION, extensions=EXTENSIONS)

        async def model_metadata(request: Any, context: Any) -> Any:
            model = models.model(request.name, request.version)
            answer = messages.ModelMetadataResponse(name=model.name, versions=[model.version], platform=PLATFORM)
            for tensors, described in ((INPUTS, answer.inputs), (OUTPUTS, answer.outputs)):
                for tensor in tensors:
                    described.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            return answer

        async def model_infer(request: Any, context: Any) -> Any:
            inputs = _inputs(request, most)
            outputs = check_outputs([output.name for output in request.outputs])
            inference = Inference(request.model_name, request.model_version, inputs, outputs)
            model, tensors = await infer(models, inference)
            answer = messages.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
            for tensor in tensors:
                answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
                answer.raw_output_contents.append(to_binary(tensor))
            return answer

        # The class that grpc makes has these very names.
        calls = {
            "ServerLive": self._guarded(live, limited=False),
            "ServerReady": self._guarded(ready, limited=False),
            "ModelReady": self._guarded(model_ready),
            "ServerMetadata": self._guarded(server_metadata),
            "ModelMetadata": self._guarded(model_metadata),
            "ModelInfer": self._guarded(model_infer),
        }
        servicer = services.GRPCInferenceServiceServicer()
        for name, call in calls.items():
            setattr(servicer, name, call)
        return servicer


def _inputs(request: Any, most: int) -> list[Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refusal(f"The request holds {len(request.inputs)} inputs and {len(raw)} raw contents.")
    tensors = []
    for number, entry in enumerate(request.inputs):
        shape = tuple(entry.shape)
        count = check_input(entry.name, entry.datatype, shape, most)
        values: list[bytes] | np.ndarray
        if raw:
            values = from_binary(entry.name, raw[number], count, shape)
        elif entry.name == "image":
            values = list(entry.contents.bytes_contents)
            if len(values) != count:
                raise Refusal(f"The input image holds {len(values)} byte strings; its shape needs {count}.")
        else:
            numbers = np.fromiter(entry.contents.uint_contents, np.uint32)
            if len(numbers) != count or numbers.max() > 255:
                raise Refusal(f"The input pixels needs {count} numbers from 0 to 255.")
            values = numbers.astype(np.uint8).reshape(shape)
        tensors.append(Tensor(entry.name, entry.datatype, shape, values))
    return tensors
