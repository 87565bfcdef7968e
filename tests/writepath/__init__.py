"""One write path: what a view writes is what an edit of the file says."""
