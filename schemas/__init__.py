"""What services tell one another and remember: topics, events and their encoding, the bundle, ClickHouse tables."""
