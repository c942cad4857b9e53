-- What readiness writes, and deletes in the same transaction, to see whether writes are taken. Always empty.
CREATE TABLE write_checks (
    id   INTEGER PRIMARY KEY,
    body BLOB    NOT NULL
);
