-- What readiness writes, and deletes in the same transaction, to see whether writes are taken. Always empty.
CREATE TABLE write_checks (
    id   BIGINT     NOT NULL AUTO_INCREMENT PRIMARY KEY,
    body MEDIUMBLOB NOT NULL
);
