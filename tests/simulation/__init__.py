"""Whole fleets in virtual time, with everything that can go wrong, all of it from one seed.

Several pods and senders run the real library on one server in memory.  Between them lies a network that delays, loses,
repeats and overtakes; pods are killed and frozen; the server stalls, restarts, falls back to an older copy, and its
clock jumps.  A history of what happened is judged afterwards by a checker that knows nothing of how it came about.
A seed replays exactly, Trio's scheduling included.  The idea is FoundationDB's.

    python -m simulation --seed 7             what became of one seed
    python -m simulation --seed 7 --trace     with all that happened, to read
    python -m simulation --seeds 0-5000       many, until one fails
    python -m simulation --mutant NAME        the same, with a rule of the protocol broken

run from `tests/`.  Where things stand:

    history     what is written down while a fleet runs
    checker     what must hold of a history
    holding     the part of it that concerns what is held back
    process     a process that can be frozen and killed, by what Trio schedules
    network     requests and hints on their way
    store       a store's client, that repeats what got no answer
    server      the server in memory, with a clock that jumps, copies of its data, and a pen for the history
    workload    commands, handlers, senders, and another store that keeps the highest fence
    operator    who pauses, purges, redelivers and cancels meanwhile
    faults      what goes wrong when, drawn from a seed
    world       a fleet from its start to its end
    mutants     broken variants that must be caught

Not simulated: full servers, two servers at once, and commands that block their pod without a checkpoint are only
pods that are frozen with their heartbeat going on.
"""
