"""What the tests share: processes, a database server, a practice seen through the public API."""
