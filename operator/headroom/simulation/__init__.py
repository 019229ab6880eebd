"""A small world in discrete events, in which the worker policy decides: load in, timeline and figures out.

`shapes` are loads as data, `load` draws their jobs, `world` is the queue with its workers and its database. `scalers`
decide in it: the policy of the operator, and KEDA with the HPA. `optimum` is what somebody who knows the future would
do. `run` plays one case, `goals` are what must come out, and `python -m headroom.simulation` prints the table.

All times are seconds from the start of a run, and all chance comes from its seed.
"""
