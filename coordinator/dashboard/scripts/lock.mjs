// Completes package-lock.json: no addresses, and an entry for every platform's package.
//
// Packages are pinned by version and by hash, never by where they come from. A registry that lacks the packages of other
// platforms makes npm leave their entries out, and `npm ci` then refuses the file: they are put in by version.
import { readFileSync, writeFileSync } from "node:fs";

const SYSTEMS = ["android", "darwin", "freebsd", "linux", "openharmony", "win32"];
const PROCESSORS = ["arm64", "arm", "ia32", "x64", "ppc64", "riscv64", "s390x", "loong64", "wasm32"];

/** What a name like "@tailwindcss/oxide-linux-arm64-musl" says of where it runs. */
function platform(name) {
  const words = name.split(/[/-]/);
  const os = SYSTEMS.filter((system) => words.includes(system));
  const cpu = PROCESSORS.filter((processor) => words.includes(processor));
  if (cpu.length === 0)
    throw new Error(`${name}: its name names no processor; write its entry into the lock file by hand`);
  return { cpu, ...(os.length > 0 ? { os } : {}), ...(words.includes("musl") ? { libc: ["musl"] } : {}) };
}

const path = new URL("../package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(path, "utf8"));
for (const entry of Object.values(lock.packages)) {
  delete entry.resolved;
  delete entry.funding;
}
for (const entry of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const place = `node_modules/${name}`;
    if (lock.packages[place] === undefined && /^\d/.test(version)) {
      lock.packages[place] = { version, ...platform(name), dev: true, optional: true };
    }
  }
}
const sorted = Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
lock.packages = Object.fromEntries(sorted);
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
