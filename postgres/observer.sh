# The role as which Alloy looks at PostgreSQL, and the extension that counts statements. Run by postgres-init with psql, which the image carries, at every
# start: a script of the image's own kind (docker-entrypoint-initdb.d) runs on an empty volume only. Doing it twice is no error.
#
# pg_monitor reads what everybody does (pg_stat_activity, pg_stat_statements); pg_read_all_data lets EXPLAIN plan a statement. Nothing can be written.
exec psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set observer="$OBSERVER_USER" --set password="$OBSERVER_PASSWORD" <<'SQL'
SELECT format('CREATE ROLE %I', :'observer') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'observer') \gexec
ALTER ROLE :"observer" LOGIN PASSWORD :'password' CONNECTION LIMIT 10;
ALTER ROLE :"observer" SET default_transaction_read_only = on;
GRANT pg_monitor, pg_read_all_data TO :"observer";
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
SQL
