"""Why a request is not answered as asked, with its HTTP status; each protocol puts it into an error body of its own."""

from __future__ import annotations

from vqi.platform.errors import BadInput


class Refusal(Exception):
    """Base of the reasons; its text is one sentence for whoever asked."""

    status = 400

    @property
    def headers(self) -> dict[str, str]:
        """What the answer carries besides its body."""
        return {}


class Unauthorised(Refusal):
    status = 401

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"}


class NotServed(Refusal):
    """A bundle, a version or a path that is not here."""

    status = 404


class Late(Refusal):
    """A request that did not arrive in time."""

    status = 408


class TooLarge(Refusal):
    status = 413


class Unpredictable(Refusal):
    """None of the photographs could be predicted."""

    status = 422


class Busy(Refusal):
    """More is waiting than this server holds."""

    status = 503

    def __init__(self, sentence: str, seconds: int = 1) -> None:
        super().__init__(sentence)
        self.seconds = seconds

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.seconds)}


class Expired(Refusal):
    """An answer that was not there in time."""

    status = 504


def refusal_of(error: BadInput) -> Refusal:
    """The refusal that says what a BadInput says."""
    return Refusal(str(error))
