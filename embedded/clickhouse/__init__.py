"""ClickHouse's HTTP protocol over the chDB engine: the ClickHouse of the one-machine stack.

Start it with `python -m embedded.clickhouse`. Clients can't tell it from a ClickHouse server.
"""
