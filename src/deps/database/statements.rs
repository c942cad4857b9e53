//! Every statement, once, for every backend: text with `$n` parameters, and what it is called in signals.

/// One SQL statement and its names in spans and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// `db.query.text`: parameters only, never values.
    pub text: &'static str,
    /// `db.operation.name`
    pub operation: &'static str,
    /// `db.collection.name`
    pub collection: Option<&'static str>,
    /// `db.query.summary` and the name of the span.
    pub summary: &'static str,
}

pub const PRODUCT: Statement = Statement {
    text: "SELECT sku, name, category, price_cents FROM products WHERE sku = $1",
    operation: "SELECT",
    collection: Some("products"),
    summary: "SELECT products",
};

pub const BEGIN: Statement = Statement {
    text: "BEGIN",
    operation: "BEGIN",
    collection: None,
    summary: "BEGIN",
};

/// First of its transaction, so that SQLite takes the write lock at once instead of failing when it upgrades.
pub const RESERVE: Statement = Statement {
    text: "UPDATE products SET reserved = reserved + $2 WHERE sku = $1",
    operation: "UPDATE",
    collection: Some("products"),
    summary: "UPDATE products",
};

pub const INSERT_ORDER: Statement = Statement {
    text: "INSERT INTO orders (status, total_cents, created_ms) VALUES ('accepted', $1, $2) RETURNING id",
    operation: "INSERT",
    collection: Some("orders"),
    summary: "INSERT orders",
};

pub const INSERT_ITEM: Statement = Statement {
    text: "INSERT INTO order_items (order_id, sku, quantity, price_cents) VALUES ($1, $2, $3, $4)",
    operation: "INSERT",
    collection: Some("order_items"),
    summary: "INSERT order_items",
};

/// Keeps the table bounded: a demo must not fill its disk.
pub const PRUNE: Statement = Statement {
    text: "DELETE FROM orders WHERE id <= $1",
    operation: "DELETE",
    collection: Some("orders"),
    summary: "DELETE orders",
};

pub const COMMIT: Statement = Statement {
    text: "COMMIT",
    operation: "COMMIT",
    collection: None,
    summary: "COMMIT",
};

pub const RECENT: Statement = Statement {
    text: "SELECT o.id, i.sku, i.quantity, o.total_cents FROM orders o \
           JOIN order_items i ON i.order_id = o.id ORDER BY o.id DESC LIMIT 5",
    operation: "SELECT",
    collection: Some("orders"),
    summary: "SELECT orders order_items",
};

/// Changes nothing, but needs the row's lock.
pub const LOCK: Statement = Statement {
    text: "UPDATE products SET reserved = reserved WHERE sku = $1",
    operation: "UPDATE",
    collection: Some("products"),
    summary: "UPDATE products",
};
