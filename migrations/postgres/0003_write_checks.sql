-- What readiness writes, and deletes in the same transaction, to see whether writes are taken. Always empty.
CREATE TABLE write_checks (
    id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body BYTEA  NOT NULL
);
