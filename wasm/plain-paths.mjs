// Copies a file and replaces each PREFIX, a directory of this machine, by slashes of the same length.
//
//   node plain-paths.mjs FROM TO PREFIX...
//
// The compiler option --remap-path-prefix has the same purpose, but a changed option compiles every dependency again.

import { readFileSync, writeFileSync } from "node:fs";

const [from, to, ...prefixes] = process.argv.slice(2);
const bytes = readFileSync(from);
// Longest first, because a prefix may contain another.
for (const prefix of prefixes.toSorted((a, b) => b.length - a.length)) {
    const needle = Buffer.from(prefix);
    for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + needle.length)) bytes.fill("/", at, at + needle.length);
}
writeFileSync(to, bytes);
