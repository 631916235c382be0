"""Images for containers, on a worker: built, tried, scanned and published, by docker's own client."""
