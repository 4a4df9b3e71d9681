-- What an error's traceback was, and how many errors or lines a row stands for that were left out at its place.
-- Every statement commits by itself, so each looks first whether it has been run (only MariaDB has ADD COLUMN IF NOT
-- EXISTS).

SET @aiotaskstore_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = database()
        AND table_name = 'aiotaskstore_task_errors' AND column_name = 'left_out'),
    'DO 0',
    'ALTER TABLE aiotaskstore_task_errors ADD COLUMN traceback LONGTEXT, ADD COLUMN left_out INT NOT NULL DEFAULT 0');
PREPARE aiotaskstore_step FROM @aiotaskstore_step;
EXECUTE aiotaskstore_step;
DEALLOCATE PREPARE aiotaskstore_step;

SET @aiotaskstore_step = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = database()
        AND table_name = 'aiotaskstore_task_details' AND column_name = 'left_out'),
    'DO 0',
    'ALTER TABLE aiotaskstore_task_details ADD COLUMN left_out INT NOT NULL DEFAULT 0');
PREPARE aiotaskstore_step FROM @aiotaskstore_step;
EXECUTE aiotaskstore_step;
DEALLOCATE PREPARE aiotaskstore_step;
