// Copies a file with the directories of this machine made unreadable: PREFIX becomes as many slashes, so that nothing moves.
//
//   node plain-paths.mjs FROM TO PREFIX...
//
// rustc's --remap-path-prefix does this properly, but a change of it compiles every dependency again.

import { readFileSync, writeFileSync } from "node:fs";

const [from, to, ...prefixes] = process.argv.slice(2);
const bytes = readFileSync(from);
// The longest first: one may lie inside another.
for (const prefix of prefixes.toSorted((a, b) => b.length - a.length)) {
    const needle = Buffer.from(prefix);
    for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + needle.length)) bytes.fill("/", at, at + needle.length);
}
writeFileSync(to, bytes);
