"""
Learning sessions as plain functions, for programs that embed Onefold.

The module `aio` has them for async programs, `sync` for others; names and arguments are the
same. Neither holds a session in memory: what a call did is committed
when it returns, and any number of processes over one database behave as one.
"""
