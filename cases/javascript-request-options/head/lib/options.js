"use strict";

/**
 * The options of a request, with our defaults.
 *
 *   timeoutMs  how long to wait for an answer; 0 waits for ever
 *   retries    how often a failed request is sent again; 0 for requests that must not be sent twice
 *   redirects  how many redirects are followed
 *   headers    added to ours
 */
const DEFAULTS = Object.freeze({
  timeoutMs: 30000,
  retries: 2,
  redirects: 5,
});

class OptionError extends Error {}

function checkCount(name, value) {
  if (!Number.isInteger(value) || value < 0) {
    throw new OptionError(`${name}: ${value} is not a number from 0 up`);
  }
}

/** All options of a request, from those that the caller gave. Throws an OptionError. */
function complete(given = {}) {
  const options = { headers: { accept: "application/json", ...given.headers } };
  for (const [name, value] of Object.entries(DEFAULTS)) {
    options[name] = given[name] || value;
    checkCount(name, options[name]);
  }
  return options;
}

/** Send a request with `send(request, options)`, again after a failure, as the options say. */
async function request(target, given, send) {
  const options = complete(given);
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await send(target, options);
    } catch (error) {
      if (attempt >= options.retries || error.permanent) {
        throw error;
      }
    }
  }
}

module.exports = { DEFAULTS, OptionError, complete, request };
