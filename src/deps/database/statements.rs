//! Every statement, once, for every backend: its text, and what it is called in signals.

/// One SQL statement and its names in spans and metrics.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// `db.query.text`: parameters only, never values.
    pub text: Text,
    /// `db.operation.name`
    pub operation: &'static str,
    /// `db.collection.name`
    pub collection: Option<&'static str>,
    /// `db.query.summary` and the name of the span.
    pub summary: &'static str,
}

impl Statement {
    /// Whether it ends a transaction for good.
    pub fn is_commit(&self) -> bool {
        self.operation == COMMIT.operation
    }
}

/// The same text in both ways of marking a parameter. Parameters are used once each and in order.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    /// `$1`, `$2`: SQLite and PostgreSQL.
    pub numbered: &'static str,
    /// `?`: MySQL.
    pub positional: &'static str,
}

impl Text {
    /// A text that only one backend uses.
    pub const fn of_one(text: &'static str) -> Self {
        Self {
            numbered: text,
            positional: text,
        }
    }
}

/// Writes the other way of marking parameters, when it is compiled.
macro_rules! text {
    ($numbered:literal) => {{
        const POSITIONAL: [u8; $numbered.len() - parameters($numbered)] = positional($numbered);
        Text {
            numbered: $numbered,
            positional: match std::str::from_utf8(&POSITIONAL) {
                Ok(text) => text,
                // One character stands for another: what was UTF-8 still is.
                Err(_) => $numbered,
            },
        }
    }};
}

const fn parameters(text: &str) -> usize {
    let (mut count, mut at) = (0, 0);
    while at < text.len() {
        count += (text.as_bytes()[at] == b'$') as usize;
        at += 1;
    }
    count
}

/// `text` with `?` for each `$` and the digit behind it.
const fn positional<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut out = [0; LENGTH];
    let (mut from, mut to) = (0, 0);
    while to < LENGTH {
        let parameter = text.as_bytes()[from] == b'$';
        out[to] = if parameter {
            b'?'
        } else {
            text.as_bytes()[from]
        };
        from += 1 + parameter as usize;
        to += 1;
    }
    out
}

pub const PRODUCT: Statement = Statement {
    text: text!("SELECT sku, name, category, price_cents FROM products WHERE sku = $1"),
    operation: "SELECT",
    collection: Some("products"),
    summary: "SELECT products",
};

pub const BEGIN: Statement = Statement {
    text: text!("BEGIN"),
    operation: "BEGIN",
    collection: None,
    summary: "BEGIN",
};

/// First of its transaction, so that SQLite takes the write lock at once instead of failing when it upgrades.
pub const RESERVE: Statement = Statement {
    text: text!("UPDATE products SET reserved = reserved + $1 WHERE sku = $2"),
    operation: "UPDATE",
    collection: Some("products"),
    summary: "UPDATE products",
};

pub const INSERT_ORDER: Statement = Statement {
    text: Text {
        numbered: "INSERT INTO orders (status, total_cents, created_ms) VALUES ('accepted', $1, $2) RETURNING id",
        // MySQL has no RETURNING: the id comes with the answer.
        positional: "INSERT INTO orders (status, total_cents, created_ms) VALUES ('accepted', ?, ?)",
    },
    operation: "INSERT",
    collection: Some("orders"),
    summary: "INSERT orders",
};

pub const INSERT_ITEM: Statement = Statement {
    text: text!(
        "INSERT INTO order_items (order_id, sku, quantity, price_cents) VALUES ($1, $2, $3, $4)"
    ),
    operation: "INSERT",
    collection: Some("order_items"),
    summary: "INSERT order_items",
};

/// Keeps the table bounded: a demo must not fill its disk.
pub const PRUNE: Statement = Statement {
    text: text!("DELETE FROM orders WHERE id <= $1"),
    operation: "DELETE",
    collection: Some("orders"),
    summary: "DELETE orders",
};

pub const COMMIT: Statement = Statement {
    text: text!("COMMIT"),
    operation: "COMMIT",
    collection: None,
    summary: "COMMIT",
};

pub const ROLLBACK: Statement = Statement {
    text: text!("ROLLBACK"),
    operation: "ROLLBACK",
    collection: None,
    summary: "ROLLBACK",
};

/// What readiness writes, and deletes in the same transaction. In no signal: a check is not work.
pub const CHECK_INSERT: Statement = Statement {
    text: Text {
        numbered: "INSERT INTO write_checks (body) VALUES ($1) RETURNING id",
        positional: "INSERT INTO write_checks (body) VALUES (?)",
    },
    operation: "INSERT",
    collection: Some("write_checks"),
    summary: "INSERT write_checks",
};

pub const CHECK_DELETE: Statement = Statement {
    text: text!("DELETE FROM write_checks WHERE id = $1"),
    operation: "DELETE",
    collection: Some("write_checks"),
    summary: "DELETE write_checks",
};

pub const RECENT: Statement = Statement {
    text: text!(
        "SELECT o.id, i.sku, i.quantity, o.total_cents FROM orders o \
           JOIN order_items i ON i.order_id = o.id ORDER BY o.id DESC LIMIT 5"
    ),
    operation: "SELECT",
    collection: Some("orders"),
    summary: "SELECT orders order_items",
};

/// Changes nothing, but needs the row's lock.
pub const LOCK: Statement = Statement {
    text: text!("UPDATE products SET reserved = reserved WHERE sku = $1"),
    operation: "UPDATE",
    collection: Some("products"),
    summary: "UPDATE products",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_marked_as_the_backend_reads_them() {
        assert_eq!(
            RESERVE.text.numbered,
            "UPDATE products SET reserved = reserved + $1 WHERE sku = $2"
        );
        assert_eq!(
            RESERVE.text.positional,
            "UPDATE products SET reserved = reserved + ? WHERE sku = ?"
        );
        assert_eq!(COMMIT.text.positional, "COMMIT");
    }
}
