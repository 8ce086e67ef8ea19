/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The packages written by others that tests stand on live outside the tree
 * (build/test-node, made by ./test); import() alone would not look there.
 */
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import path from "node:path";

export const root = path.resolve(import.meta.dirname, "../..");
export const build = process.env.CLOISTER_BUILD || path.join(root, "build");
const require = createRequire(path.join(process.env.CLOISTER_TEST_NODE || path.join(build, "test-node"), "package.json"));

export async function load(name) {
	return import(pathToFileURL(require.resolve(name)).href);
}

export function loadCommonJs(name) {
	return require(name);
}
