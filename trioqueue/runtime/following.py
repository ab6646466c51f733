"""Followers of commands: what they are told of a command's progress, the newest word only."""

import trio


class Follower:
    """Waits for words on one command's progress; older ones that were not read yet are dropped."""

    def __init__(self, command_id: str) -> None:
        self.command_id = command_id
        self._word: bytes | None = None  # not read yet
        self._last: bytes | None = None  # the newest one that was heard
        self._news = trio.Event()

    def tell(self, word: bytes) -> None:
        """Takes a word; the one that was heard last is no news."""
        if word != self._last:
            self._word = self._last = word
            self.wake()

    def wake(self) -> None:
        """Has the follower look for itself: the command may be settled."""
        self._news.set()

    def take(self) -> bytes | None:
        """Takes the newest word that was not read yet."""
        word, self._word = self._word, None
        return word

    async def wait(self, seconds: float) -> None:
        """Waits for news, for a while."""
        with trio.move_on_after(seconds):
            await self._news.wait()
        self._news = trio.Event()


class Followers:
    """All followers of one client."""

    def __init__(self) -> None:
        self._followers: dict[str, list[Follower]] = {}  # by command id; no list is empty

    def add(self, command_id: str) -> Follower:
        """Begins to follow."""
        follower = Follower(command_id)
        self._followers.setdefault(command_id, []).append(follower)
        return follower

    def remove(self, follower: Follower) -> None:
        """Ends it."""
        others = self._followers[follower.command_id]
        others.remove(follower)
        if not others:
            del self._followers[follower.command_id]

    def tell(self, command_id: str, word: bytes) -> None:
        """Passes a word on."""
        for follower in self._followers.get(command_id, ()):
            follower.tell(word)

    def settled(self, command_id: str) -> None:
        """Takes note that a command is settled."""
        for follower in self._followers.get(command_id, ()):
            follower.wake()
