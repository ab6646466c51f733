"""An executable model of the protocol: every interleaving of small fleets, searched for a broken promise.

The model runs the protocol's scripts as atomic steps, lets requests be lost, doubled and late, kills and freezes pods,
and puts an older copy of the store in its place.  Each rule of the protocol is a switch: with all of them on no
promise may break, and with any one of them off the search must find how it breaks.

    python -m model --check --seconds 300     every instance with all rules
    python -m model --mutants                 every rule switched off in turn
    python -m model --show NAME               the shortest way to the broken promise, step by step
    python -m model --list                    the rules, each with its sentence, and the instances

run from `tests/`.  Where things stand:

    rules       the switches, each with the sentence it stands for
    state       what the store, the pods and the checker know
    scripts     the store's scripts, one atomic step each
    pods        what a pod does with hints, reports and answers
    promises    the invariants
    mailbox     entities, pods and a producer, with everything that can go wrong
    lease       renewals, silence, the trust window and the quarantine, in time
    search      breadth first, so that a trace is a shortest one; random walks; drains
    instances   which fleets are searched, and where each missing rule shows

Not modelled: what travels in a command, replies, states of entities, hints that arrive before their answer, and
a former server that still serves some pods after another was put in its place.
"""
