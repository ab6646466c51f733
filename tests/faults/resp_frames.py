"""Where one RESP message ends and the next begins: enough of the wire format to harm a chosen request or reply."""

END = b"\r\n"

_ONE_LINE = b"+-:_,#("
_BYTES = b"$!="
_ELEMENTS = {ord("*"): 1, ord(">"): 1, ord("~"): 1, ord("%"): 2}

PUSH = ord(">")


def frame_end(data: bytes | bytearray, start: int = 0) -> int | None:
    """Says where the message that begins at `start` ends; None: not all of it is there."""
    waiting, at = 1, start
    while waiting:
        line_end = data.find(END, at)
        if line_end < 0:
            return None
        kind, text = data[at], data[at + 1 : line_end]
        at = line_end + 2
        waiting -= 1
        if kind in _BYTES:
            if int(text) >= 0:
                at += int(text) + 2
                if at > len(data):
                    return None
        elif kind in _ELEMENTS:
            waiting += max(int(text), 0) * _ELEMENTS[kind]
        else:
            assert kind in _ONE_LINE, f"no message begins with {chr(kind)!r}"
    return at


def arguments(frame: bytes | bytearray) -> list[bytes]:
    """Reads a request, which is an array of strings."""
    count_end = frame.index(END)
    words, at = [], count_end + 2
    for _ in range(int(frame[1:count_end])):
        size_end = frame.index(END, at)
        size = int(frame[at + 1 : size_end])
        at = size_end + 2 + size + 2
        words.append(bytes(frame[size_end + 2 : at - 2]))
    return words


class Splitter:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes, and gives the messages that are whole now."""
        self._data += data
        frames, at = [], 0
        while at < len(self._data) and (end := frame_end(self._data, at)) is not None:
            frames.append(bytes(self._data[at:end]))
            at = end
        del self._data[:at]
        return frames
