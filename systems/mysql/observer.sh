# The user as which Alloy looks at MySQL. Run by mysql-init with the client that the image carries, at every start; doing it twice is no error.
# PROCESS and REPLICATION CLIENT are what the exporter asks for, performance_schema is where statements and waits stand, and SELECT on the
# service's tables lets EXPLAIN plan a statement. Nothing can be written.
exec mysql --host=mysql --user=root <<SQL
CREATE USER IF NOT EXISTS '$OBSERVER_USER'@'%' IDENTIFIED BY '$OBSERVER_PASSWORD';
ALTER USER '$OBSERVER_USER'@'%' IDENTIFIED BY '$OBSERVER_PASSWORD' WITH MAX_USER_CONNECTIONS 10;
GRANT PROCESS, REPLICATION CLIENT ON *.* TO '$OBSERVER_USER'@'%';
GRANT SELECT ON performance_schema.* TO '$OBSERVER_USER'@'%';
GRANT SELECT, SHOW VIEW ON \`$MYSQL_DB\`.* TO '$OBSERVER_USER'@'%';
SQL
