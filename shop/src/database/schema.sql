-- Tables and what they hold at first. Ten customers (1 to 10) and five baskets (1 to 5) are wholesalers', with thousands of orders and lines.
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL, price_cents INTEGER NOT NULL, description TEXT NOT NULL);
CREATE TABLE stock (product_id INTEGER PRIMARY KEY, pieces INTEGER NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, placed_on TEXT NOT NULL, total_cents INTEGER NOT NULL);
CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, product_id INTEGER NOT NULL, quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL);
CREATE TABLE basket_lines (basket_id INTEGER NOT NULL, position INTEGER NOT NULL, product_id INTEGER NOT NULL, quantity INTEGER NOT NULL, PRIMARY KEY (basket_id, position)) WITHOUT ROWID;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
INSERT INTO products
SELECT i,
  CASE i % 5 WHEN 0 THEN 'oak' WHEN 1 THEN 'steel' WHEN 2 THEN 'linen' WHEN 3 THEN 'glass' ELSE 'paper' END || ' '
    || CASE i % 7 WHEN 0 THEN 'chair' WHEN 1 THEN 'lamp' WHEN 2 THEN 'bowl' WHEN 3 THEN 'shelf' WHEN 4 THEN 'clock' WHEN 5 THEN 'box' ELSE 'frame' END || ' ' || i,
  CASE i % 12 WHEN 0 THEN 'kitchen' WHEN 1 THEN 'garden' WHEN 2 THEN 'office' WHEN 3 THEN 'bath' WHEN 4 THEN 'hall' WHEN 5 THEN 'attic'
    WHEN 6 THEN 'nursery' WHEN 7 THEN 'cellar' WHEN 8 THEN 'porch' WHEN 9 THEN 'study' WHEN 10 THEN 'parlour' ELSE 'bedroom' END,
  500 + (i * 37) % 9000,
  replace(printf('%.*c', 100, 'x'), 'x', 'Made by hand in small numbers, for people who keep things. ')
FROM n;
INSERT INTO stock SELECT id, (id * 13) % 90 FROM products;

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 80000)
INSERT INTO orders
SELECT i, CASE WHEN i <= 30000 THEN 1 + i % 10 ELSE 11 + i % 490 END, date('2018-01-01', '+' || (i / 10) || ' days'), 1000 + (i * 91) % 40000
FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 160000)
INSERT INTO order_lines SELECT i, (i + 1) / 2, 1 + (i * 7919) % 2000, 1 + i % 3, 500 + (i * 37) % 9000 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO basket_lines SELECT 1 + i % 5, i, 1 + (i / 5 * 31) % 2000, 1 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2280)
INSERT INTO basket_lines SELECT 6 + i % 285, i, 1 + (i * 31) % 2000, 1 + i % 2 FROM n;

CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE INDEX order_lines_by_order ON order_lines (order_id);
ANALYZE;
