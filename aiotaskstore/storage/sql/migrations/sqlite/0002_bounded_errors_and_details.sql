-- What an error's traceback was, and how many errors or lines a row stands for that were left out at its place.

ALTER TABLE aiotaskstore_task_errors ADD COLUMN traceback TEXT;
ALTER TABLE aiotaskstore_task_errors ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;
ALTER TABLE aiotaskstore_task_details ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;
