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

/** POST /orders */
function createOrder(request, store) {
  const { sku, quantity } = request.body;
  if (typeof sku !== "string" || !/^[A-Z]{3}-\d+$/.test(sku)) {
    throw new HttpError(400, "sku: not an article");
  }
  if (!isQuantity(quantity)) {
    throw new HttpError(400, `quantity: not a number from 1 to ${LARGEST_QUANTITY}`);
  }
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
  const { quantity } = request.body;
  if (!isQuantity(quantity)) {
    throw new HttpError(400, `quantity: not a number from 1 to ${LARGEST_QUANTITY}`);
  }
  store.put({ ...order, quantity });
  return { status: 200, body: store.get(order.id) };
}

const ROUTES = {
  "POST /orders": createOrder,
  "PUT /orders/:id": changeOrder,
};

/** Answer a request; `request.route` is a key of ROUTES, which the server has matched. */
function answer(request, store) {
  try {
    return ROUTES[request.route](request, store);
  } catch (error) {
    if (error instanceof HttpError) {
      return { status: error.status, body: { error: error.message } };
    }
    throw error;
  }
}

module.exports = { answer };
