// Prints what the built page weighs, gzipped, and fails when its scripts weigh more than the budget allows.
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const SCRIPT_BUDGET_BYTES = 250_000;
const folder = new URL("../dist/", import.meta.url);
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1).padStart(7)} kB`;

const files = readdirSync(folder, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => `${entry.parentPath}/${entry.name}`)
  .map((path) => ({
    name: path.split("/dist/").at(-1).replace(/^\//, ""),
    bytes: gzipSync(readFileSync(path), { level: 9 }).length,
  }))
  .sort((a, b) => b.bytes - a.bytes);
for (const { name, bytes } of files) console.log(`${kilobytes(bytes)}  ${name}`);

const scripts = files.filter(({ name }) => name.endsWith(".js")).reduce((sum, { bytes }) => sum + bytes, 0);
console.log(`${kilobytes(scripts)}  all scripts, gzipped, of ${SCRIPT_BUDGET_BYTES / 1000} kB allowed`);
if (scripts > SCRIPT_BUDGET_BYTES) {
  console.error("The scripts are over their budget: load less, or load it later and say why the budget rises.");
  process.exit(1);
}
