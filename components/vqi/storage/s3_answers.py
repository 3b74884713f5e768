"""What a store's answer means: whether it may pass, and the sentence for a person where it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree.ElementTree import ParseError

import urllib3
from minio.error import MinioException, S3Error, ServerError

from vqi.platform.errors import BadInput, RunFailed

LONGEST_WAIT = 30.0
# What the client and its HTTP library raise; ParseError where something other than a store answered.
ERRORS = (MinioException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError, ValueError, ParseError)
_WRONG_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidAccessKey", "AuthorizationHeaderMalformed"}
_WRONG_TOKEN = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "InvalidTokenId",
    "InvalidClientTokenId",
    "TokenRefreshRequired",
}
_FULL = {
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "QuotaExceeded",
    "BucketQuotaExceeded",
    "StorageFull",
    "InsufficientStorage",
}
_REFUSED_NAMES = {
    "KeyTooLongError",
    "InvalidBucketName",
    "XMinioInvalidObjectName",
    "XMinioInvalidResourceName",
    "InvalidObjectName",
    "InvalidURI",
}
_PASSING = {
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "OperationAborted",
    # What was sent did not arrive as it left.
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
}
# What servers answer to a call they do not offer or take for another (rules for a bucket: for making it), or to a rule
# they do not know.
_NOT_OFFERED = {
    "NotImplemented",
    "MethodNotAllowed",
    "MalformedXML",
    "InvalidRequest",
    "InvalidArgument",
    "BucketAlreadyExists",
    "BucketAlreadyOwnedByYou",
}
# The codes of a HEAD request's answer: it has no body, so the client cannot know the real code.
_CODES_WITHOUT_REASON = {"AccessDenied", "BadRequest", "Redirect", "PermanentRedirect", ""}


class Incomplete(Exception):
    """Content that ended early or does not have the checksum it should have: worth another attempt."""


def status_and_code(error: BaseException) -> tuple[int, str]:
    """HTTP status (0 where there was no answer) and S3 error code ("" where there was none) of what the client raised.

    The client parses `application/xml` alone; servers that answer in `text/xml` have their code in the text of the
    error.
    """
    if isinstance(error, S3Error):
        return error.response.status if error.response is not None else 0, re.sub(r"\W", "", error.code or "")[:60]
    if isinstance(error, ServerError):
        return error.status_code, ""
    text = str(error)
    status, code = re.search(r"Response code: (\d{3})", text), re.search(r"<Code>(\w{1,60})</Code>", text)
    return int(status[1]) if status else 0, code[1] if code else ""


def may_pass(error: BaseException) -> bool:
    """Whether another attempt may do better."""
    status, code = status_and_code(error)
    if isinstance(error, urllib3.exceptions.ProxyError) and _refusal(error):
        return False
    if isinstance(error, urllib3.exceptions.SSLError):
        return not re.search(r"CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|HTTP_REQUEST", str(error))
    if isinstance(error, urllib3.exceptions.HTTPError | Incomplete | ConnectionError | TimeoutError | ParseError):
        return True
    if code in _FULL or status in (501, 505, 507):
        return False
    return status in (408, 425, 429) or status >= 500 or code in _PASSING


@contextmanager
def not_offered() -> Iterator[None]:
    """End the block quietly where the store does not know the call in it, or something the call says."""
    try:
        yield
    except MinioException as error:
        status, code = status_and_code(error)
        if status not in (405, 501) and code not in _NOT_OFFERED:
            raise


def lacks_reason(error: BaseException) -> bool:
    """Whether a refused HEAD request came without its reason, which another request must get."""
    status, code = status_and_code(error)
    return status in (301, 307, 400, 403) and code in _CODES_WITHOUT_REASON


def requested_pause(error: BaseException) -> float:
    """The seconds that the store asks to be left alone for; 0 where it does not say."""
    headers = error.response.headers if isinstance(error, S3Error) and error.response is not None else {}
    seconds = str(headers.get("Retry-After") or "")
    return min(float(seconds), LONGEST_WAIT) if seconds.isdecimal() and len(seconds) < 6 else 0.0


def reason_of(error: BaseException) -> str:
    """A few words for a person: the store's code, its status, or what happened on the way."""
    status, code = status_and_code(error)
    if isinstance(error, Incomplete):
        return str(error)
    if isinstance(error, urllib3.exceptions.ProxyError):
        return "the proxy cannot be reached or does not connect; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    return code or (f"status {status}" if status else type(error).__name__)


def explained(error: BaseException, bucket: str, address: str, endpoint: str, writing: bool) -> BadInput | RunFailed:
    """The sentence for an error that will not pass."""
    status, code = status_and_code(error)
    store = f"The store at {endpoint}"
    region = _region(error)
    refusal = _refusal(error) if isinstance(error, urllib3.exceptions.ProxyError) else 0
    if 407 in (status, refusal):
        return BadInput(
            f"The proxy before the store at {endpoint} asks for a user and a password, or refuses them (407); "
            "write USER:PASSWORD@ before the host in HTTP_PROXY or HTTPS_PROXY, or name the store in NO_PROXY."
        )
    if refusal:
        return RunFailed(
            f"The proxy does not connect to the store at {endpoint} ({refusal}); let it, or name the store in NO_PROXY."
        )
    if code in _FULL or status == 507:
        return RunFailed(
            f"{store} is full, or the quota of {bucket!r} is reached ({code or status}): {address} was not stored; "
            "make room and start again."
        )
    if code == "RequestTimeTooSkewed":
        return RunFailed(
            f"{store} refuses requests because its clock and this machine's differ too much ({code}); set the clock "
            "right."
        )
    if region and (
        code in ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect")
        or status in (301, 307)
    ):
        return BadInput(
            f"{store} keeps {bucket!r} in the region {region!r} ({code or status}); set AWS_REGION={region}."
        )
    if code in _WRONG_TOKEN:
        return BadInput(
            f"{store} refuses the credentials ({code}): the session token has expired or is of other keys; set "
            "AWS_SESSION_TOKEN and its keys anew."
        )
    if code in _WRONG_CREDENTIALS:
        return BadInput(f"{store} refuses the credentials ({code}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    if code == "InvalidObjectState":
        return BadInput(
            f"{address} is in an archive class of the store at {endpoint} ({code}); restore it there first."
        )
    if status == 403 or code == "AccessDenied":
        what = (
            "be written there, and that the bucket takes writes (a reached quota can close it)"
            if writing
            else "be read"
        )
        return BadInput(f"{store} denies access to {address}; check the credentials and what may {what}.")
    if code in _REFUSED_NAMES:
        return BadInput(f"{store} refuses the name {address} ({code}); choose another.")
    if code == "NoSuchBucket" or (status == 404 and writing):
        return BadInput(f"There is no bucket {bucket!r} in the store at {endpoint}.")
    if status == 404:
        return BadInput(f"There is no object {address} in the store at {endpoint}.")
    if status == 412:
        return BadInput(f"{address} was replaced while it was being downloaded; start again.")
    if isinstance(error, urllib3.exceptions.SSLError):
        if re.search(r"WRONG_VERSION_NUMBER|HTTP_REQUEST", str(error)):
            return BadInput(f"{store} speaks plain HTTP; write its address with http://.")
        if "Hostname mismatch" in str(error) or "IP address mismatch" in str(error):
            return RunFailed(
                f"The certificate of the store at {endpoint} is not for this host name; use the name that it is for."
            )
        return RunFailed(
            f"The certificate of the store at {endpoint} is not trusted; name its authority's file in AWS_CA_BUNDLE."
        )
    if status == 400 and "HTTPS server" in str(error):
        return BadInput(f"{store} speaks HTTPS; write its address with https://.")
    reason = code or status or (str(error).splitlines() or [type(error).__name__])[0][:200]
    return RunFailed(f"{store} cannot {'take' if writing else 'give'} {address} ({reason}).")


def _refusal(error: BaseException) -> int:
    """The status with which a proxy refused a tunnel for good, 0 where it did not."""
    match = re.search(r"Tunnel connection failed: (4\d\d)", str(error))
    return int(match[1]) if match else 0


def _region(error: BaseException) -> str:
    """The region that a store says it is in, "" where it says none."""
    response = error.response if isinstance(error, S3Error) else None
    if response is None:
        return ""
    header = re.fullmatch(r"[a-z0-9-]{2,40}", response.headers.get("x-amz-bucket-region") or "")
    body = re.search(rb"<Region>([a-z0-9-]{2,40})</Region>", response.data or b"")
    return header[0] if header else body[1].decode() if body else ""
