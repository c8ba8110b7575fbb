"""Labels out of the record and into it, in shapes that other tools read and write.

form.py says what goes through a file: a request with what experts said of it. shapes/ has one module for each shape of
a file. record.py asks ClickHouse; arrival.py decides what of a file is new, and tells Kafka.
"""
