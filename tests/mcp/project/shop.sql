CREATE TABLE orders (id serial PRIMARY KEY, customer text NOT NULL, total numeric NOT NULL);
INSERT INTO orders (customer, total) VALUES ('ann', 12.50), ('bob', 99.00), ('cyd', 3.20);
