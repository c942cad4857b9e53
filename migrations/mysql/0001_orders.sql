-- The shop behind /demo/work. The same tables as in ../postgres, in MySQL's types; MariaDB reads them too.
CREATE TABLE products (
    sku         VARCHAR(32)  PRIMARY KEY,
    name        VARCHAR(128) NOT NULL,
    category    VARCHAR(32)  NOT NULL,
    price_cents BIGINT       NOT NULL CHECK (price_cents > 0),
    reserved    BIGINT       NOT NULL DEFAULT 0
) ENGINE = InnoDB;

CREATE TABLE orders (
    id          BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    status      VARCHAR(32)  NOT NULL,
    total_cents BIGINT       NOT NULL CHECK (total_cents > 0),
    created_ms  BIGINT       NOT NULL
) ENGINE = InnoDB;

-- Foreign keys stand apart: beside the column MySQL reads and forgets them.
CREATE TABLE order_items (
    order_id    BIGINT       NOT NULL,
    sku         VARCHAR(32)  NOT NULL,
    quantity    BIGINT       NOT NULL CHECK (quantity > 0),
    price_cents BIGINT       NOT NULL,
    PRIMARY KEY (order_id, sku),
    FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE,
    FOREIGN KEY (sku) REFERENCES products (sku)
) ENGINE = InnoDB;
