-- The shop behind /demo/work. The same tables as in ../sqlite, in PostgreSQL's types.
CREATE TABLE products (
    sku         TEXT    PRIMARY KEY,
    name        TEXT    NOT NULL,
    category    TEXT    NOT NULL,
    price_cents BIGINT  NOT NULL CHECK (price_cents > 0),
    reserved    BIGINT  NOT NULL DEFAULT 0
);

CREATE TABLE orders (
    id          BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status      TEXT    NOT NULL,
    total_cents BIGINT  NOT NULL CHECK (total_cents > 0),
    created_ms  BIGINT  NOT NULL
);

CREATE TABLE order_items (
    order_id    BIGINT  NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    sku         TEXT    NOT NULL REFERENCES products (sku),
    quantity    BIGINT  NOT NULL CHECK (quantity > 0),
    price_cents BIGINT  NOT NULL,
    PRIMARY KEY (order_id, sku)
);
