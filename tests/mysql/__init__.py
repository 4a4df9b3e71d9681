"""What only MySQL and MariaDB promise."""
