"""GitHub, both ways: events in, statuses, comments and releases out, and strangers held at the door."""
