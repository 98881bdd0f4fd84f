"""
The promises of the ports as test cases: subclass, return a fresh adapter, run pytest.

Nothing here imports pytest; the cases are plain coroutines with asserts.
"""
