"""MySQL and MariaDB through aiomysql."""
