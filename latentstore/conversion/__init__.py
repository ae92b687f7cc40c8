"""A sealed dataset in another container, storage or layout, without encoding a picture again."""
