"""The service's operations, each written once as a generator of effects.

    settle     one event of one job, saved for certain: decide, compare-and-set, conflicts, lost answers
    dispatch   from the queue to the dispatcher
    commands   what a host and its users ask
    attempts   what a worker asks
    whole      requests, and their parts in the artifact store
    reading    what changes nothing
    many       commands on many jobs
    sweeps     what time asks

Rules for the next editor: no effect stands in a `finally`, a `with` or an `except BaseException`; every effect is used as
`yield from`; what may happen is the lifecycle's decision, never a flow's.
"""
