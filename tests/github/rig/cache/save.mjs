// A stand-in for actions/cache/save, on the same client library.
import * as cache from "@actions/cache";
import * as core from "@actions/core";

const paths = core.getMultilineInput("path", { required: true });
await cache.saveCache(paths, core.getInput("key", { required: true }));
core.info("saved");
