"""The store on Redis: one shared connection a client, one Lua script an operation.

`address.py` reads URLs, `transport.py` carries requests, `keys.py` names keys, `scripts.py` loads what stands in
`lua/`, `replies.py` turns answers into words of the contract, `batch.py` lets requests of one moment share a call,
`lease.py` keeps the heartbeat in a thread, and `store.py` puts them together.
"""
