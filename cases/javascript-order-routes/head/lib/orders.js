"use strict";

/** The routes of /orders. */

class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const LARGEST_QUANTITY = 1000;

function isQuantity(value) {
  return Number.isInteger(value) && value >= 1 && value <= LARGEST_QUANTITY;
}

/** What each field of a body has to be. */
const FIELDS = {
  sku: {
    accepts: (value) => typeof value === "string" && /^[A-Z]{3}-\d+$/.test(value),
    wanted: "an article",
  },
  quantity: { accepts: isQuantity, wanted: `a number from 1 to ${LARGEST_QUANTITY}` },
};

/** POST /orders */
function createOrder(request, store) {
  const { sku, quantity } = request.body;
  const order = { id: store.nextId(), owner: request.user.id, sku, quantity };
  store.put(order);
  return { status: 201, body: order };
}

/** PUT /orders/:id */
function changeOrder(request, store) {
  const order = store.get(request.params.id);
  if (!order || order.owner !== request.user.id) {
    throw new HttpError(404, "no such order");
  }
  store.put({ ...order, quantity: request.body.quantity });
  return { status: 200, body: store.get(order.id) };
}

/** The handler of each route, and the fields that its body must have. */
const ROUTES = {
  "POST /orders": { handle: createOrder, body: ["sku", "quantity"] },
  "PUT /orders/:id": { handle: changeOrder, body: ["quantity"] },
};

function checkBody(body, names) {
  for (const name of names) {
    const field = FIELDS[name];
    if (!field.accepts(body[name])) {
      throw new HttpError(400, `${name}: not ${field.wanted}`);
    }
  }
}

/** Answer a request; `request.route` is a key of ROUTES, which the server has matched. */
function answer(request, store) {
  try {
    const { handle, body } = ROUTES[request.route];
    checkBody(request.body, body);
    return handle(request, store);
  } catch (error) {
    if (error instanceof HttpError) {
      return { status: error.status, body: { error: error.message } };
    }
    throw error;
  }
}

module.exports = { answer };
