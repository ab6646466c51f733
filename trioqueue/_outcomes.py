"""What an outcome says to whoever waited for it: the answer, or the error that `call` and `result` raise."""

from typing import Any

from trioqueue._errors import CallCancelled, CallFailed, DeadlineExceeded, DecodeError, UnknownCommand
from trioqueue.messages.codec import Codec
from trioqueue.messages.command import CommandInfo
from trioqueue.messages.rejection import rejection_from
from trioqueue.protocol.outcome import Kind, Outcome


def read_outcome(codec: Codec, command: str, data: bytes) -> Outcome:
    """Reads the outcome of a command, named by its wire name.

    Raises:
        DecodeError: The bytes are no outcome.
    """
    try:
        return Outcome.from_wire(codec.loads(data))
    except ValueError:
        raise DecodeError(f"the outcome of {command} is none that is known here", data) from None


def answer_of(codec: Codec, info: CommandInfo, entity: str, data: bytes, path: tuple[str, ...] = ()) -> Any:
    """Turns an outcome into what `call` returns or raises.

    Args:
        codec: Of who waits.
        info: What the command's class declares.
        entity: Whom it was for, as `account/42`.
        data: The outcome as it is kept.
        path: The entities that waited for it, first caller first.
    """
    outcome = read_outcome(codec, info.name, data)
    match outcome.kind:
        case Kind.DONE:
            return codec.structure(outcome.value, info.reply_type())
        case Kind.REJECTED:
            fields: Any = {} if outcome.value is None else outcome.value
            if fields.__class__ is not dict:
                raise DecodeError(f"the fields of a rejection of {info.name} are not an object", data)
            raise rejection_from(codec, info.rejects, outcome.name, fields)
        case Kind.CANCELLED:
            raise CallCancelled(info.name, entity)
        case Kind.EXPIRED:
            raise DeadlineExceeded(info.name, entity, path)
        case Kind.DEAD:
            if outcome.name == UnknownCommand.__name__:
                raise UnknownCommand(entity, info.name)
            raise CallFailed(info.name, entity, str(outcome.value), outcome.traceback)
