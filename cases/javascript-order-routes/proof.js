"use strict";

// What is not valid is refused on every route, with the same answer, and changes nothing.

const assert = require("node:assert");
const path = require("node:path");
const { answer } = require(path.resolve(process.argv[2], "lib/orders.js"));

const orders = new Map();
const store = { nextId: () => orders.size + 1, put: (order) => orders.set(order.id, order), get: (id) => orders.get(id) };
const user = { id: "ann" };
const send = (route, body, params = {}) => answer({ route, user, body, params }, store);

assert.equal(send("POST /orders", { sku: "MUG-1", quantity: 2 }).status, 201);
for (const quantity of [0, -1, 1.5, "2", null, undefined, 1001, NaN]) {
  for (const [route, params] of [["POST /orders", {}], ["PUT /orders/:id", { id: 1 }]]) {
    const { status, body } = send(route, { sku: "MUG-1", quantity }, params);
    assert.deepEqual([status, body.error], [400, "quantity: not a number from 1 to 1000"]);
  }
}
for (const sku of ["mug", "MUG-", 7, undefined, "MUG-1\n", "xMUG-1"]) {
  const { status, body } = send("POST /orders", { sku, quantity: 1 });
  assert.deepEqual([status, body.error], [400, "sku: not an article"]);
}
assert.deepEqual([...orders.values()], [{ id: 1, owner: "ann", sku: "MUG-1", quantity: 2 }]);
assert.equal(send("PUT /orders/:id", { quantity: 1000 }, { id: 1 }).body.quantity, 1000);
assert.equal(send("PUT /orders/:id", { quantity: 1 }, { id: 9 }).status, 404);
