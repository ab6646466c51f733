"""What a command becomes on its way out: its envelope, and the terms under which the store takes it."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from trioqueue._errors import EncodeError, PayloadTooLarge
from trioqueue._names import Entity, entity_id_text
from trioqueue.messages.codec import Codec
from trioqueue.messages.command import Command, info_of
from trioqueue.messages.envelope import NOTHING, Envelope, encode_envelope, plain_envelope
from trioqueue.messages.options import PLAIN, Options
from trioqueue.messages.policy import EntityPolicy
from trioqueue.runtime.context import Receipt
from trioqueue.stores.contract import Outgoing, Terms

R = TypeVar("R")

_DEFAULT_POLICY = EntityPolicy()

_STEP = 0x9E3779B1
"""What is added for the next id: odd, so that 2³² of them differ, and by the golden ratio, so that neighbours differ in
most digits (Knuth, The Art of Computer Programming, volume 3, 6.4).

Redis' Lua keeps each string in a table, by a hash of about 32 of its characters whatever its length.  Commands of one
moment are often alike but for their ids; counted ones gave thousands one hash, and to send many short ones took Redis
two to three times as long.  Beyond 256 bytes the hash may miss these digits; by then payloads mostly differ themselves.
"""


class Encoder:
    """Makes envelopes for one client, by the policies that it was opened with."""

    def __init__(self, codec: Codec, policies: Mapping[str, EntityPolicy], client: str) -> None:
        self._codec = codec
        self._policies = policies
        self._client = client
        self._prefix = f"{client}-"
        self._number = self._rounds = 0
        self.limits = {
            entity_type: policy.max_pending
            for entity_type, policy in policies.items()
            if policy.max_pending is not None
        }
        """How many commands a mailbox of each type may hold for this client."""

    def next_id(self) -> str:
        """Makes a command's id: unique for ever, as the client's is."""
        self._number = (self._number + _STEP) & 0xFFFFFFFF
        if not self._number:
            self._rounds += 1
            self._prefix = f"{self._client}-{self._rounds}."
        return f"{self._prefix}{self._number:08x}"

    def encode(
        self,
        command: Command[Any],
        command_id: str,
        options: Options = PLAIN,
        *,
        answered: bool = False,
        deadline: float = math.inf,
        chain: tuple[str, ...] = (),
        added: Mapping[str, str] | None = None,
    ) -> Outgoing:
        """Makes what the store takes.

        Args:
            command: What to send.
            command_id: Its id.
            options: What its sender asks.
            answered: Whether this client waits for the outcome.
            deadline: Seconds for which somebody waits.
            chain: The entities that wait for it.
            added: Headers of instruments; they are left out where the command has no room for them.

        Raises:
            NotRegistered, BadEntityId, EncodeError, PayloadTooLarge: It can't be sent.
        """
        info = info_of(command)
        entity = Entity(info.entity, entity_id_text(getattr(command, info.id_field)))
        policy = self._policies.get(info.entity, _DEFAULT_POLICY)
        terms: Terms | None = None
        kept, headers = policy.keep_results, NOTHING
        if options is PLAIN and not (answered or kept or added or chain) and deadline == math.inf:
            payload = self._codec.unstructure(command)
            data = plain_envelope(self._codec, command_id, info.name, info.version, payload)
            if len(data) > policy.max_payload:
                raise PayloadTooLarge(len(data), policy.max_payload)
            return Outgoing(entity, data)
        if options is not PLAIN:
            delay_us, key = options.delay_us(), options.legal_key()
            if key and delay_us > policy.key_window * 1e6:
                raise EncodeError(
                    f"the key would end before the command is due: give a delay below {policy.key_window:g} s, "
                    "or raise EntityPolicy.key_window"
                )
            if delay_us or key or options.urgent:
                terms = Terms(
                    command_id, delay_us, key, math.ceil(policy.key_window * 1000), urgent=options.urgent
                )
            headers, deadline = options.legal_headers(), min(deadline, options.legal_expiry())
            if key:
                # Another one may wait for it, so it neither expires nor is its outcome only the first caller's.
                kept, deadline = policy.key_window, math.inf
        envelope = Envelope(
            command_id,
            entity,
            info.name,
            info.version,
            self._codec.unstructure(command),
            self._client if answered or kept else None,
            None if deadline == math.inf else max(deadline, 0.0),
            chain,
            {**headers, **added} if added else headers,
            keep_ms=math.ceil(kept * 1000) if kept else 0,
        )
        data = encode_envelope(self._codec, envelope)
        if added and len(data) > policy.max_payload:
            # What may be sent must not depend on who watches.
            data = encode_envelope(self._codec, envelope._replace(headers=headers))
        if len(data) > policy.max_payload:
            raise PayloadTooLarge(len(data), policy.max_payload)
        return Outgoing(entity, data, terms)

    def receipt(self, command: Command[R], outgoing: Outgoing, command_id: str) -> Receipt[R]:
        """Makes the receipt of a command that was encoded."""
        info, terms, entity = info_of(command), outgoing.terms, outgoing.entity
        policy = self._policies.get(info.entity, _DEFAULT_POLICY)
        kept = policy.keep_results if terms is None or not terms.key else policy.key_window
        receipt: Receipt[R] = Receipt(entity.type, entity.id, command_id, info.name, kept)
        receipt.declare(info)
        return receipt
