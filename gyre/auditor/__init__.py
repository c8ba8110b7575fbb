"""What an auditor does with the record: take it out, and check it without Gyre, ClickHouse or a network.

An export is a folder with two files for each chain:

    <topic>/<partition>.arrows         its rows up to the last that was signed, an Arrow IPC stream
    <topic>/<partition>.checkpoints    what was signed of it, the oldest first (`schemas.ledger.notes`)
"""
