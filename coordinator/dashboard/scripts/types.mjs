// Writes src/api/schema.d.ts from the API's own description; `--check` only says whether they agree.
import { readFileSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const source = new URL("../src/api/openapi.json", import.meta.url);
const target = new URL("../src/api/schema.d.ts", import.meta.url);
const head = "// Generated from openapi.json by `npm run types`. Change the API's models, not this file.\n\n";

const made =
  head +
  astToString(
    await openapiTS(source, {
      alphabetize: true,
      immutable: true,
      defaultNonNullable: false,
      emptyObjectsUnknown: true,
    }),
  );
if (!process.argv.includes("--check")) writeFileSync(target, made);
else if (made !== readFileSync(target, "utf8")) {
  console.error("src/api/schema.d.ts is not what openapi.json makes: run `npm run types`.");
  process.exit(1);
}
